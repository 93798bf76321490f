import { channel } from 'node:diagnostics_channel';
import type { RelayRole } from './relay-status.js';

/** Who answered a lookup. */
export type ServedBy = 'identity-map' | 'near-cache' | 'store' | 'database';

/** Message of the `mikro-orm-plus:lookup` channel: one per lookup, without any of its values. */
export interface LookupMessage {
  /** Class name of the entity. */
  readonly entity: string;
  readonly servedBy: ServedBy;
  readonly created: boolean;
  /** True when an `updateOrCreate` changed an existing row. */
  readonly updated: boolean;
  /** True when another writer created the row first. */
  readonly raceLost: boolean;
  /** Milliseconds from the call to its answer; lookups of one batch share it. */
  readonly duration: number;
}

/** Message of the `mikro-orm-plus:commit` channel: what the end of a transaction did to the cache. */
export interface CommitMessage {
  /** Cache entries that the transaction had locked. */
  readonly entries: number;
  readonly outcome: 'committed' | 'rolled-back';
  /** False when a store could not be told; its entries stay bypassed until it is. */
  readonly released: boolean;
}

/** Message of the `mikro-orm-plus:store` channel: an operation of a store that failed. */
export interface StoreMessage {
  /** Alias of the store in the options of `PlusSubscriber`. */
  readonly store: string;
  readonly operation: string;
  readonly error: unknown;
}

/** Message of the `mikro-orm-plus:relay` channel. Every kind of failure is told once, until it is over. */
export type RelayMessage =
  | { readonly kind: 'role'; readonly role: RelayRole; readonly before: RelayRole }
  | {
      readonly kind: 'delivery';
      /** Rows of the change log that were delivered. */
      readonly changes: number;
      /** Milliseconds from the oldest change, in the transaction that made it, until the stores had confirmed it. */
      readonly lag: number;
    }
  | { readonly kind: 'failure'; readonly operation: string; readonly error: unknown };

const channels = {
  lookup: channel('mikro-orm-plus:lookup'),
  commit: channel('mikro-orm-plus:commit'),
  store: channel('mikro-orm-plus:store'),
  relay: channel('mikro-orm-plus:relay'),
};

interface Messages {
  lookup: LookupMessage;
  commit: CommitMessage;
  store: StoreMessage;
  relay: RelayMessage;
}

/** Whether anybody listens, so that building a message can be saved. */
export function isHeard(name: keyof Messages): boolean {
  return channels[name].hasSubscribers;
}

/** Publishes a message; what subscribers throw is theirs and never reaches the caller. */
export function publish<K extends keyof Messages>(name: K, message: Messages[K]): void {
  channels[name].publish(message);
}
