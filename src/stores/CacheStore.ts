/**
 * The contract between the cache and the place where entries live. Every transition below is one atomic step in the
 * store; every method is a batch, and a single entry is a batch of one.
 *
 * An entry is in one of four states:
 *
 * | state          | `readMany`                      | `fillMany` (own lease) | `fillMany` (own guard) | `lockMany`       | `releaseMany`                 | `evictMany` |
 * |----------------|---------------------------------|------------------------|------------------------|------------------|-------------------------------|-------------|
 * | absent         | miss; becomes leased if asked   | refused                | value                  | locked           | absent                        | absent      |
 * | leased(token)  | miss, no token                  | value                  | value                  | locked           | absent                        | absent      |
 * | locked(holders)| miss, no token                  | refused                | refused                | one holder more  | one holder fewer, or absent ¹ | stays locked, no write-through |
 * | value(bytes)   | hit                             | refused                | value                  | locked           | absent                        | absent      |
 *
 * ¹ The last holder removes the entry. If it was the only holder since the entry became locked, committed, its time is
 *   not over and nothing evicted the entry meanwhile, its `value` is stored instead (write-through). A release by
 *   someone whose own lock is gone already (it ran out) counts as an evict for the holders that remain.
 *
 * Every state but `absent` expires by itself. A holder whose time is over doesn't count; an entry without a holder that
 * counts isn't locked.
 *
 * A **guard** is for rows whose key isn't known before they are read: it is a snapshot of the region's sequence, which
 * every release, evict and clear in that region changes. A fill under a guard is refused once the sequence has moved, so
 * it can never land after a write that it didn't see. A guard also has an end, like a lease: without one, a reader that
 * was suspended between its select and its fill could outwait the soft lock of a writer that died after COMMIT and so
 * never released. With it, a writer that commits within `lockMs - guardMs` of its lock leaves no stale value, even then.
 *
 * A command may arrive late (its caller gave up, or the client sent it again after a reconnect). The permits make that
 * harmless: a late fill is refused, a late release or evict only removes, a late lock or lease only bypasses for a while.
 *
 * Keys, regions, holders and values are well-formed Unicode strings. Durations are milliseconds, more than 0 and at most
 * 10^12; others are a `ConfigurationError`.
 */
export interface CacheStore {
  /** What this store is able to do; a strategy that needs more is refused when the ORM starts. */
  readonly capabilities: StoreCapabilities;

  /**
   * Reads entries, in the order of `keys`. With `leaseMs`, each absent entry becomes leased for that many
   * milliseconds and its reader gets the token; without it nothing changes. A token is good for the entry it came with.
   */
  readMany(keys: readonly string[], options?: ReadOptions): Promise<ReadResult[]>;

  /**
   * Returns a snapshot of the region's present sequence, to be taken before the select and used as the `sequence` of a
   * {@link FillEntry} afterwards.
   */
  guard(region: string, options?: GuardOptions): Promise<string>;

  /**
   * Stores values of rows that were read from the database. An entry is written only if its lease or guard still
   * holds. An entry without `value` gives its lease back (a guard needs no giving back). Returns, per entry, whether
   * it was written.
   */
  fillMany(entries: readonly FillEntry[]): Promise<boolean[]>;

  /**
   * Puts soft locks on entries, before COMMIT. Values and leases are gone at once. Locking an entry again as the
   * same holder prolongs that holder's lock.
   *
   * A holder whose `lockMany` was not acknowledged (it failed, or timed out) must release without values: its lock may
   * arrive after the writes of others that committed later, and a write-through would then bring back an older row.
   */
  lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void>;

  /**
   * Takes `holder`'s soft locks back, just after COMMIT or ROLLBACK, and moves the regions' sequences. Entries that
   * are not locked any more (the store was emptied, the lock ran out) are removed as well.
   */
  releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void>;

  /** Removes entries (a soft lock stays, but can't write through any more) and moves the regions' sequences. */
  evictMany(entries: readonly LockEntry[]): Promise<void>;

  /**
   * Removes every entry whose key starts with `prefix`, and moves the sequence of every region whose name starts with
   * it (`region + ':'` as prefix moves that region's too). A fill under way under a lease or guard from before the call
   * is refused. Soft locks stay, without write-through. Guards are void per region only, so `prefix` should cover whole
   * regions, not a part of one. The empty prefix is a `ConfigurationError` in a shared store, which others may use.
   */
  clear(prefix: string): Promise<void>;

  /** Answers if the store is reachable, else throws. */
  ping(): Promise<void>;

  /** Frees what the store itself opened; a client that was handed in stays open. May be called twice. */
  close(): Promise<void>;
}

/** What a store is able to do. */
export interface StoreCapabilities {
  /** Soft locks that survive concurrent holders; needed by the `read-write` strategy. */
  readonly softLocks: boolean;
  /** Whether other processes see the same entries. */
  readonly shared: boolean;
}

/** Options of {@link CacheStore.readMany}. */
export interface ReadOptions {
  /** Lease each absent entry for this many milliseconds. Default: no lease. */
  readonly leaseMs?: number;
}

/** Options of {@link CacheStore.guard}. */
export interface GuardOptions {
  /**
   * How long a fill under the guard is allowed, in milliseconds: the same as `leaseMs`, and well below `lockMs`.
   * Default: 10 000 ({@link DEFAULT_GUARD_MS}).
   */
  readonly guardMs?: number;
}

/** Default of {@link GuardOptions.guardMs}. */
export const DEFAULT_GUARD_MS = 10_000;

/** What a read found. `leased`: absent, and this reader may fill it. `miss`: absent, leased by another, or locked. */
export type ReadResult =
  | { readonly kind: 'hit'; readonly value: string }
  | { readonly kind: 'leased'; readonly token: string }
  | { readonly kind: 'miss' };

/** One entry to fill, under a lease (`token`) or under a guard. */
export interface FillEntry {
  readonly key: string;
  /** The new value; `undefined` gives the lease back. */
  readonly value: string | undefined;
  /** Life of the value in milliseconds. */
  readonly ttlMs: number;
  readonly permit:
    | { readonly kind: 'lease'; readonly token: string }
    | { readonly kind: 'guard'; readonly region: string; readonly sequence: string };
}

/** One entry to lock or evict, and the region whose sequence its release moves. */
export interface LockEntry {
  readonly key: string;
  readonly region: string;
}

/** One entry to release. */
export interface ReleaseEntry extends LockEntry {
  /** The committed row, if it is to be written through. */
  readonly value?: string;
  /** Life of `value` in milliseconds; needed with `value`. */
  readonly ttlMs?: number;
}
