import type { Transaction } from '@mikro-orm/core';
import { randomUUID } from 'node:crypto';
import type { Region } from '../stores/Region.js';

/** A cache entry of a row that a transaction wrote. */
export interface TouchedEntry {
  readonly region: Region;
  readonly key: string;
  /** The row as committed, when it is known that nothing else in the transaction changes it. */
  readonly value: string | undefined;
}

/** A soft lock that was asked for before the commit. */
export interface LockAhead {
  /** By a clock that nobody sets. */
  readonly sentAt: number;
  /** Whether the store has it; never rejects. */
  readonly confirmed: Promise<boolean>;
}

/** What one transaction, from its BEGIN to its end and with all its savepoints, did to cached rows. */
export class TransactionRecord {
  /** Names this transaction among the holders of soft locks. */
  readonly holder = randomUUID();
  readonly #touched = new Map<string, TouchedEntry>();
  /** Whether the cache may answer inside; asked of the server once. */
  cacheable: Promise<boolean> | undefined;
  /** Stores that were asked for locks, and when that is settled. */
  readonly locking = new Map<unknown, Promise<unknown>>();
  /** Stores whose locks were confirmed before COMMIT; only those may be written through. */
  readonly locked = new Set<unknown>();
  /** Soft locks that were sent along with the flush's own statements, by entry. */
  readonly ahead = new Map<string, LockAhead>();
  /** Whether there are such locks to be sent yet; from the beginning of the commit or rollback on, there are none. */
  aheadState: 'none' | 'due' | 'over' = 'none';
  /** Regions of which anything may have changed; removed whole after the commit. */
  readonly cleared = new Set<Region>();

  /** Notes a row that was written. Written twice, its first value is no longer what is committed. */
  touch(region: Region, key: string, value?: string): void {
    this.#touched.set(key, { region, key, value: this.#touched.has(key) ? undefined : value });
  }

  hasTouched(region: Region, key: string): boolean {
    return this.#touched.has(key) || this.cleared.has(region);
  }

  touched(): TouchedEntry[] {
    return [...this.#touched.values()];
  }
}

interface StartEvent {
  readonly em: object;
  readonly transaction?: unknown;
}

/**
 * Finds the record of a transaction from any of its savepoints. MikroORM doesn't tell the root of a savepoint, but its
 * events do: before the start of one, the transaction around it; after, its own.
 */
export class TransactionRecords {
  readonly #starting = new WeakMap<object, object>();
  readonly #parents = new WeakMap<object, object>();
  /** Of the transactions that are open; `null` until one is asked for, since most touch nothing that is cached. */
  readonly #records = new WeakMap<object, TransactionRecord | null>();

  beforeStart({ em, transaction }: StartEvent): void {
    // only of a savepoint does it matter what is around it
    if (transaction) this.#starting.set(em, transaction);
  }

  afterStart({ em, transaction }: StartEvent): void {
    if (typeof transaction !== 'object' || transaction === null) return;
    if (!isSavepoint(transaction)) {
      this.#records.set(transaction, null);
      return;
    }
    const parent = this.#starting.get(em);
    this.#starting.delete(em);
    if (parent) this.#parents.set(transaction, parent);
  }

  /** The record of a transaction or savepoint; `undefined` for one whose start was not seen. */
  of(transaction: Transaction | undefined): TransactionRecord | undefined {
    let current = transaction as object | undefined;
    while (current && isSavepoint(current)) current = this.#parents.get(current);
    if (!current) return undefined;
    let record = this.#records.get(current);
    if (record === null) this.#records.set(current, (record = new TransactionRecord()));
    return record;
  }

  /** The record of a transaction that is ending; `undefined` at the end of a savepoint, or when it has none. */
  ofEnding(transaction: unknown): TransactionRecord | undefined {
    if (typeof transaction !== 'object' || transaction === null || isSavepoint(transaction)) return undefined;
    return this.#records.get(transaction) ?? undefined;
  }

  end(transaction: unknown): void {
    this.#records.delete(transaction as object);
  }
}

function isSavepoint(transaction: object): boolean {
  return 'savepointName' in transaction && transaction.savepointName !== undefined;
}
