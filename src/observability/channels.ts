import { channel, subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
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

/** Message of the `mikro-orm-plus:circuit` channel: a store is bypassed from now on, or asked again. */
export interface CircuitMessage {
  /** Alias of the store in the options of `PlusSubscriber`. */
  readonly store: string;
  /** `open`: an operation failed, and nobody waits for the store. `closed`: it answers again, or its user closed it. */
  readonly state: 'open' | 'closed';
}

/** What can be done to the entries of a region. */
export type CacheEvent = 'fill' | 'refused-fill' | 'soft-lock' | 'eviction';

/** Message of the `mikro-orm-plus:cache` channel: what was done to entries of a region. */
export interface CacheMessage {
  /** Class name of the region's entity. */
  readonly entity: string;
  readonly event: CacheEvent;
  /** How many entries; emptying a whole region counts as one. */
  readonly entries: number;
}

/**
 * Message of the tracing channel `mikro-orm-plus:call` (`tracing:mikro-orm-plus:call:start`, `:asyncEnd`, `:error`, … as
 * Node.js names them): one call of a repository method, from its start to its end, without any of its values.
 */
export interface CallMessage {
  readonly operation: 'getOrCreate' | 'updateOrCreate';
  /** Class name of the entity. */
  readonly entity: string;
  readonly table: string;
  /** How many lookups; 1 unless it is a batch. */
  readonly size: number;
}

const channels = {
  lookup: channel('mikro-orm-plus:lookup'),
  commit: channel('mikro-orm-plus:commit'),
  store: channel('mikro-orm-plus:store'),
  relay: channel('mikro-orm-plus:relay'),
  circuit: channel('mikro-orm-plus:circuit'),
  cache: channel('mikro-orm-plus:cache'),
};

/** Where {@link traceCall} tells of calls. */
export const calls = tracingChannel<CallMessage, CallMessage>('mikro-orm-plus:call');

interface Messages {
  lookup: LookupMessage;
  commit: CommitMessage;
  store: StoreMessage;
  relay: RelayMessage;
  circuit: CircuitMessage;
  cache: CacheMessage;
}

/** Whether anybody listens, so that building a message can be saved. */
export function isHeard(name: keyof Messages): boolean {
  return channels[name].hasSubscribers;
}

/** Publishes a message; what subscribers throw is theirs and never reaches the caller. */
export function publish<K extends keyof Messages>(name: K, message: Messages[K]): void {
  channels[name].publish(message);
}

/** Calls `listener` with every message from now on, until the returned function is called. */
export function onMessage<K extends keyof Messages>(name: K, listener: (message: Messages[K]) => void): () => void {
  const channelName = `mikro-orm-plus:${name}`;
  const receive = (message: unknown): void => listener(message as Messages[K]);
  subscribe(channelName, receive);
  return () => {
    unsubscribe(channelName, receive);
  };
}

/**
 * Runs a call between the messages of the tracing channel `mikro-orm-plus:call`; its result isn't in them. As nobody
 * listens most of the time, that way builds no message, and what is answered without waiting stays so.
 */
export function traceCall<T>(describe: () => CallMessage, work: () => T | Promise<T>): T | Promise<T> {
  return calls.hasSubscribers ? runTraced(describe(), work) : work();
}

async function runTraced<T>(message: CallMessage, work: () => T | Promise<T>): Promise<T> {
  let result: T;
  await calls.tracePromise(async () => {
    result = await work();
  }, message);
  return result!;
}
