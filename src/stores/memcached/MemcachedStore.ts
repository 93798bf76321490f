import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ConfigurationError } from '../../errors.js';
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
} from '../CacheStore.js';
import { milliseconds, sequenceKey } from '../limits.js';
import { liveEntry, pathOf } from './entry.js';
import { fillUnderGuard, fillUnderLease } from './fills.js';
import { Items, newItem, type Read } from './Items.js';
import type { Server } from './Server.js';
import type { MemcachedServerSource } from './servers.js';
import type { Change } from './Session.js';

/** Life of a sequence. Losing one is safe: fills under guards from before are refused. */
const SEQUENCE_MS = 24 * 60 * 60 * 1_000;

/** How long `close` waits for commands under way, such as an evict. */
const CLOSE_MS = 1_000;

/**
 * A store in memcached 1.6 or later, shared by all processes. It has no soft locks, so it can serve the strategies
 * `read-only` and `nonstrict-read-write`: `lockMany` and `releaseMany` evict, and nothing is written through.
 *
 * Memcached has no scripts. A step that depends on what an entry holds reads it with its unique number (`mg … c`) and
 * changes it only if it still has that number (`cas`); an entry that was removed and stored again has another one.
 * Losing any item at any moment is safe: a lost entry is a miss, a lost lease or sequence a refused fill.
 *
 * Keys are spread over the servers, so every process needs the same list of them. The entries of a server that is down
 * fail; they don't move to another one, from which they would come back old. A value that is larger than a server
 * takes (1 MB; memcached's option `-I`) is not stored. Commands are sent once and not repeated.
 *
 * ```ts
 * new MemcachedStore('memcached://cache-1:11211,cache-2:11211');
 * new MemcachedStore([{ id: 'cache-1', connection: () => new MemcacheNode('cache-1', 11211, { tls: true }) }]);
 * ```
 */
export class MemcachedStore implements CacheStore {
  readonly capabilities: StoreCapabilities = Object.freeze({ softLocks: false, shared: true });

  readonly #items: Items;
  /** Operations without a result yet. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closed = false;

  /**
   * @param source a `memcached://` URL, which needs the package `memcache`, or the servers. It connects at first use,
   *   and closes what it opened.
   * @throws {ConfigurationError} when the URL is wrong, there is no server, or one comes twice
   */
  constructor(source: string | readonly MemcachedServerSource[]) {
    this.#items = new Items(source);
  }

  async readMany(keys: readonly string[], options: ReadOptions = {}): Promise<ReadResult[]> {
    const leaseMs = options.leaseMs === undefined ? undefined : milliseconds('leaseMs', options.leaseMs);
    return this.#use(async () => {
      const found = await this.#items.read([...new Set(keys)]);
      const token = randomUUID();
      const leased = leaseMs === undefined ? new Set<string>() : await this.#lease(found, token, leaseMs);
      return keys.map((key): ReadResult => {
        const entry = found.get(key)!.entry;
        if (entry?.kind === 'value') {
          return { kind: 'hit', value: entry.content };
        }
        return leased.has(key) ? { kind: 'leased', token } : { kind: 'miss' };
      });
    });
  }

  async guard(region: string, options: GuardOptions = {}): Promise<string> {
    const guardMs = milliseconds('guardMs', options.guardMs ?? DEFAULT_GUARD_MS);
    return this.#use(async () => {
      const nonce = (await this.#sequence(region)) ?? (await this.#beginSequence(region));
      return `${nonce}:${Date.now() + guardMs}`;
    });
  }

  async fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    const fills = entries.map((entry) => ({
      ...entry,
      ttlMs: entry.value === undefined ? 0 : milliseconds('ttlMs', entry.ttlMs),
    }));
    return this.#use(async () => {
      const written = new Set<FillEntry>();
      for (const round of inRounds(fills)) {
        const results = await Promise.all([fillUnderLease(this.#items, round), fillUnderGuard(this.#items, round)]);
        results.forEach((result) => result.forEach((fill) => written.add(fill)));
      }
      return fills.map((fill) => written.has(fill));
    });
  }

  /** Evicts: there are no soft locks. What is filled between this and the release goes with the release. */
  async lockMany(entries: readonly LockEntry[], _holder: string, lockMs: number): Promise<void> {
    milliseconds('lockMs', lockMs);
    await this.evictMany(entries);
  }

  /** Evicts. Nothing is written through: without a lock, somebody else's later row could be overwritten. */
  async releaseMany(entries: readonly ReleaseEntry[], _holder: string): Promise<void> {
    entries.forEach(({ value, ttlMs }) => value !== undefined && milliseconds('ttlMs', ttlMs));
    await this.evictMany(entries);
  }

  /** Removes the sequences first, and waits for it: a fill under a guard depends on that order. */
  async evictMany(entries: readonly LockEntry[]): Promise<void> {
    await this.#use(async () => {
      await this.#items.remove([...new Set(entries.map(({ region }) => sequenceKey(region)))]);
      await this.#items.remove(entries.map(({ key }) => key));
    });
  }

  /**
   * Makes entries unreachable, as memcached can't list them. It takes whole parts of keys, each ending in a colon: a
   * prefix that ends within a part takes everything with the parts before it, and of more than 8 parts the first 8 count.
   */
  async clear(prefix: string): Promise<void> {
    const path = pathOf(prefix);
    if (path === '') {
      throw new ConfigurationError(
        "A prefix without a colon would clear other applications' keys in memcached too. Name a prefix that has one.",
      );
    }
    await this.#use(() => this.#items.removeBelow(path));
  }

  async ping(): Promise<void> {
    await this.#use(() => this.#items.ping());
  }

  /** @internal */
  servers(): readonly Pick<Server, 'id' | 'stats'>[] {
    return this.#items.servers;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.race([Promise.allSettled(this.#underWay), delay(CLOSE_MS, undefined, { ref: false })]);
    await this.#items.end();
  }

  /** Leases the entries that are absent or dead; returns the keys of those that it got. */
  async #lease(found: ReadonlyMap<string, Read>, token: string, leaseMs: number): Promise<Set<string>> {
    const absent = new Map<string, ReturnType<typeof newItem>>();
    const dead = new Map<string, ReturnType<typeof newItem>>();
    for (const [key, { stamp, entry, isAbsent }] of found) {
      if (stamp !== undefined && (entry === undefined || entry.kind === 'sequence')) {
        (isAbsent ? absent : dead).set(key, newItem({ kind: 'lease', stamp, content: token }, leaseMs));
      }
    }
    const [leased, again] = await Promise.all([this.#items.add(absent), this.#items.find([...dead.keys()])]);
    const changes = new Map<Change, string>();
    for (const [key, was] of again) {
      // Somebody else may have leased or filled it since.
      if (liveEntry(was.text, found.get(key)!.stamp) === undefined) {
        changes.set({ found: was, to: dead.get(key) }, key);
      }
    }
    (await this.#items.change([...changes.keys()])).forEach((change) => leased.add(changes.get(change)!));
    return leased;
  }

  async #sequence(region: string): Promise<string | undefined> {
    return (await this.#items.sequences([region])).get(region);
  }

  async #beginSequence(region: string): Promise<string> {
    const key = sequenceKey(region);
    const nonce = randomUUID();
    const [stamps, found] = await Promise.all([this.#items.stamps([key]), this.#items.find([key])]);
    const stamp = stamps.get(key);
    const was = found.get(key)!;
    if (stamp !== undefined && liveEntry(was.text, stamp)?.kind !== 'sequence') {
      await this.#items.change([{ found: was, to: newItem({ kind: 'sequence', stamp, content: nonce }, SEQUENCE_MS) }]);
    }
    // Another's, if it came first. If there is none (no room for it, or it was moved already), nothing is filled.
    return (await this.#sequence(region)) ?? nonce;
  }

  /** Lets `close` wait for what `work` does. */
  async #use<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) {
      throw new Error('The Memcached store is closed.');
    }
    const result = work();
    this.#underWay.add(result);
    try {
      return await result;
    } finally {
      this.#underWay.delete(result);
    }
  }
}

/** Splits fills so that no key comes twice in one round, and each round sees what the one before it has done. */
function inRounds(fills: readonly FillEntry[]): FillEntry[][] {
  const rounds: FillEntry[][] = [];
  const times = new Map<string, number>();
  for (const fill of fills) {
    const time = times.get(fill.key) ?? 0;
    times.set(fill.key, time + 1);
    (rounds[time] ??= []).push(fill);
  }
  return rounds;
}

/** Opens a store for a `memcached://` URL. Nothing is connected yet. */
export function openMemcachedStore(url: string): MemcachedStore {
  return new MemcachedStore(url);
}
