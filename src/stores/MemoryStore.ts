import { LRUCache } from 'lru-cache';
import { ConfigurationError } from '../errors.js';
import {
  DEFAULT_GUARD_MS,
  type CacheStore,
  type FillEntry,
  type GuardOptions,
  type LockEntry,
  type ReadOptions,
  type ReadResult,
  type ReleaseEntry,
  type StoreCapabilities,
} from './CacheStore.js';
import { milliseconds, sequenceKey } from './limits.js';

/** Options of {@link MemoryStore}. */
export interface MemoryStoreOptions {
  /**
   * Most values and leases kept at a time, 1 to 10 000 000; the least recently used goes first. Raise it when the hit
   * rate is low and memory allows; the size in bytes is up to the rows. Soft locks don't count. Default: 10 000.
   */
  readonly maxEntries?: number;
}

const DEFAULT_MAX_ENTRIES = 10_000;
const MAX_MAX_ENTRIES = 10_000_000;

/** Sequences kept at a time. One that is dropped only refuses the guards that were taken from it. */
const MAX_SEQUENCES = 10_000;

/** Locks are searched for dead ones when there are more than this, or more than twice as many as after the last search. */
const MIN_LOCKS_TO_SWEEP = 1_000;

type Entry =
  | { readonly kind: 'leased'; readonly token: string; readonly expiresAt: number }
  | { readonly kind: 'value'; readonly value: string; readonly expiresAt: number };

interface SoftLock {
  /** Each holder's end. */
  readonly holders: Map<string, number>;
  /** The holder that may write through: the only one since the entry became locked, if nothing evicted it since. */
  writer: string | undefined;
}

/**
 * A store in this process's memory. Its promises hold within the process: other processes have their own entries.
 *
 * Every method does its whole batch in one synchronous step, before its promise is returned, so no two transitions
 * overlap. Time is taken from the monotonic clock; expired entries are dropped when they are met.
 */
export class MemoryStore implements CacheStore {
  readonly capabilities: StoreCapabilities = Object.freeze({ softLocks: true, shared: false });

  /** Values and leases. Losing one under pressure is a miss, or a refused fill. */
  readonly #entries: LRUCache<string, Entry>;
  /**
   * Soft locks, apart from the bounded entries: losing one would let a reader fill a row that is about to change. A key
   * is never in both. Their number is bounded by the rows in commits under way, and by the sweep of dead ones.
   */
  readonly #locks = new Map<string, SoftLock>();
  #sweepAbove = MIN_LOCKS_TO_SWEEP;
  /** By sequence key. Moving a sequence is deleting it: the next guard makes a new nonce, and no nonce comes twice. */
  readonly #sequences = new LRUCache<string, string>({ max: MAX_SEQUENCES });
  /** Source of tokens and nonces. Never reset, so that what was handed out before `clear` or `close` stays void. */
  #lastNonce = 0;

  constructor(options: MemoryStoreOptions = {}) {
    const max = options.maxEntries ?? DEFAULT_MAX_ENTRIES;
    if (!Number.isInteger(max) || max < 1 || max > MAX_MAX_ENTRIES) {
      throw new ConfigurationError(
        `maxEntries of a memory store must be an integer from 1 to ${MAX_MAX_ENTRIES}, but it is ${max}.`,
      );
    }
    this.#entries = new LRUCache({ max });
  }

  async readMany(keys: readonly string[], options: ReadOptions = {}): Promise<ReadResult[]> {
    const leaseMs = options.leaseMs === undefined ? undefined : milliseconds('leaseMs', options.leaseMs);
    const now = performance.now();
    let token: string | undefined;
    return keys.map((key): ReadResult => {
      const entry = this.#entryAt(key, now);
      if (entry?.kind === 'value') {
        return { kind: 'hit', value: entry.value };
      }
      if (leaseMs === undefined || this.#lockAt(key, now)) {
        return { kind: 'miss' };
      }
      if (entry !== undefined && entry.token !== token) {
        return { kind: 'miss' };
      }
      token ??= this.#nextNonce();
      if (entry === undefined) {
        this.#entries.set(key, { kind: 'leased', token, expiresAt: now + leaseMs });
      }
      return { kind: 'leased', token };
    });
  }

  async guard(region: string, options: GuardOptions = {}): Promise<string> {
    const end = performance.now() + milliseconds('guardMs', options.guardMs ?? DEFAULT_GUARD_MS);
    const key = sequenceKey(region);
    const nonce = this.#sequences.get(key) ?? this.#nextNonce();
    this.#sequences.set(key, nonce);
    return `${nonce}:${end}`;
  }

  async fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    const ttls = entries.map(({ value, ttlMs }) => (value === undefined ? 0 : milliseconds('ttlMs', ttlMs)));
    const now = performance.now();
    return entries.map(({ key, value, permit }, index) => {
      if (!this.#permits(permit, key, now)) {
        return false;
      }
      if (value !== undefined) {
        this.#entries.set(key, { kind: 'value', value, expiresAt: now + ttls[index]! });
      } else if (permit.kind === 'lease') {
        this.#entries.delete(key);
      }
      return value !== undefined;
    });
  }

  async lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    const now = performance.now();
    const end = now + milliseconds('lockMs', lockMs);
    for (const { key } of entries) {
      this.#entries.delete(key);
      const lock = this.#lockAt(key, now) ?? { holders: new Map<string, number>(), writer: holder };
      if (lock.writer !== holder) {
        lock.writer = undefined;
      }
      lock.holders.set(holder, Math.max(end, lock.holders.get(holder) ?? 0));
      this.#locks.set(key, lock);
    }
    this.#sweepLocks(now);
  }

  async releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void> {
    const ttls = entries.map(({ value, ttlMs }) => (value === undefined ? 0 : milliseconds('ttlMs', ttlMs)));
    const now = performance.now();
    entries.forEach(({ key, region, value }, index) => {
      this.#sequences.delete(sequenceKey(region));
      this.#entries.delete(key);
      const lock = this.#lockAt(key, now);
      if (lock === undefined) {
        return;
      }
      lock.holders.delete(holder);
      if (lock.holders.size > 0) {
        lock.writer = undefined;
        return;
      }
      this.#locks.delete(key);
      if (lock.writer === holder && value !== undefined) {
        this.#entries.set(key, { kind: 'value', value, expiresAt: now + ttls[index]! });
      }
    });
  }

  async evictMany(entries: readonly LockEntry[]): Promise<void> {
    const now = performance.now();
    for (const { key, region } of entries) {
      this.#sequences.delete(sequenceKey(region));
      this.#evict(key, now);
    }
  }

  async clear(prefix: string): Promise<void> {
    const now = performance.now();
    for (const key of Array.from(this.#sequences.keys())) {
      if (key.startsWith(prefix)) {
        this.#sequences.delete(key);
      }
    }
    for (const key of [...this.#entries.keys(), ...this.#locks.keys()]) {
      if (key.startsWith(prefix)) {
        this.#evict(key, now);
      }
    }
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {
    this.#entries.clear();
    this.#locks.clear();
    this.#sequences.clear();
  }

  #nextNonce(): string {
    this.#lastNonce += 1;
    return String(this.#lastNonce);
  }

  #entryAt(key: string, now: number): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.expiresAt <= now) {
      this.#entries.delete(key);
      return undefined;
    }
    return entry;
  }

  /** The lock on `key` without the holders whose time is over, or `undefined` if no holder is left. */
  #lockAt(key: string, now: number): SoftLock | undefined {
    const lock = this.#locks.get(key);
    if (lock === undefined) {
      return undefined;
    }
    for (const [holder, end] of lock.holders) {
      if (end <= now) {
        lock.holders.delete(holder);
      }
    }
    if (lock.holders.size === 0) {
      this.#locks.delete(key);
      return undefined;
    }
    return lock;
  }

  #permits(permit: FillEntry['permit'], key: string, now: number): boolean {
    if (permit.kind === 'lease') {
      const entry = this.#entryAt(key, now);
      return entry?.kind === 'leased' && entry.token === permit.token;
    }
    const [nonce, end] = permit.sequence.split(':');
    const isCurrent = this.#sequences.get(sequenceKey(permit.region)) === nonce && Number(end) > now;
    return isCurrent && this.#lockAt(key, now) === undefined;
  }

  #evict(key: string, now: number): void {
    this.#entries.delete(key);
    const lock = this.#lockAt(key, now);
    if (lock !== undefined) {
      lock.writer = undefined;
    }
  }

  /** Frees locks whose holders never came back and whose keys nobody asks for. Constant time per lock, on average. */
  #sweepLocks(now: number): void {
    if (this.#locks.size <= this.#sweepAbove) {
      return;
    }
    for (const key of this.#locks.keys()) {
      this.#lockAt(key, now);
    }
    this.#sweepAbove = Math.max(MIN_LOCKS_TO_SWEEP, 2 * this.#locks.size);
  }
}
