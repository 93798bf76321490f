import { randomUUID } from 'node:crypto';
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
import { CHECK, FILL_PINNED, PIN } from './cluster-scripts.js';
import {
  assertUsableClient,
  createClusterClient,
  type RedisAccess,
  type RedisClientLike,
  type RedisClusterLike,
} from './redis-client.js';
import { parseTopologyUrl } from './redis-url.js';
import { RedisConnection } from './RedisConnection.js';
import { EVICT, FILL, GUARD, LOCK, READ, RELEASE } from './scripts.js';
import {
  clearPatterns,
  keysOf,
  onPrimary,
  PART_SIZE,
  readResult,
  scan,
  SEQUENCE_MS,
  sequencesOf,
  storedValue,
} from './wire.js';

/** Life of a pin where there is nothing else under the key: much longer than the two round trips until its fill. */
const PIN_MS = 10_000;

/** How often `clear` begins again because the cluster's nodes changed under it. */
const CLEAR_ATTEMPTS = 5;

type Guarded = FillEntry & { readonly permit: { readonly kind: 'guard' } };

/**
 * A store in Redis Cluster (Redis 6.2 or later, or Valkey). Entries and the sequences of regions are spread over the
 * slots, so every script has one key; the scripts of a batch are sent together, which makes about one round trip per
 * node. A release or evict takes two, as sequences move first; a fill under a guard takes three, see
 * `cluster-scripts.ts` for the reasons. Everything else is as in {@link RedisStore}.
 */
export class RedisClusterStore implements CacheStore, RedisAccess {
  readonly capabilities: StoreCapabilities = Object.freeze({ softLocks: true, shared: true });

  readonly #redis: RedisConnection<RedisClusterLike>;

  /**
   * @param source a `redis+cluster://` or `rediss+cluster://` URL (the store opens its own connections at first use, and
   *   closes them), or a client, which stays its maker's to close.
   */
  constructor(source: string | RedisClusterLike) {
    if (typeof source === 'string') {
      assertKind(parseTopologyUrl(source).kind === 'cluster');
      this.#redis = new RedisConnection(() => createClusterClient(source));
    } else {
      assertKind(source.isCluster);
      assertUsableClient(source);
      this.#redis = new RedisConnection(source);
    }
  }

  async readMany(keys: readonly string[], options: ReadOptions = {}): Promise<ReadResult[]> {
    const leaseMs = options.leaseMs === undefined ? 0 : milliseconds('leaseMs', options.leaseMs);
    const token = randomUUID();
    const found = await inWaves(keys, (key) => this.#redis.run(READ, [key], [token, String(leaseMs)]));
    return found.map((reply) => readResult((reply as [string])[0], token));
  }

  async guard(region: string, options: GuardOptions = {}): Promise<string> {
    const guardMs = milliseconds('guardMs', options.guardMs ?? DEFAULT_GUARD_MS);
    const args = [randomUUID(), String(SEQUENCE_MS), String(guardMs)];
    return (await this.#redis.run(GUARD, [sequenceKey(region)], args)) as string;
  }

  async fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    // All durations are checked before anything is sent.
    const stored = new Map(entries.map((entry) => [entry, storedValue(entry.value, entry.ttlMs)]));
    const written = new Map<FillEntry, boolean>();
    for (const round of rounds(entries)) {
      const leased = round.filter(({ permit }) => permit.kind === 'lease');
      const guarded = round.filter((entry): entry is Guarded => entry.permit.kind === 'guard');
      await Promise.all([this.#fillLeased(leased, stored, written), this.#fillGuarded(guarded, stored, written)]);
    }
    return entries.map((entry) => written.get(entry) === true);
  }

  async lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    const args = [holder, String(milliseconds('lockMs', lockMs))];
    await inWaves(entries, ({ key }) => this.#redis.run(LOCK, [key], args));
  }

  async releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void> {
    const values = new Map(entries.map((entry) => [entry, storedValue(entry.value, entry.ttlMs)]));
    await this.#moveSequences(entries);
    await inWaves(entries, (entry) => this.#redis.run(RELEASE, [entry.key], ['1', holder, ...values.get(entry)!]));
  }

  async evictMany(entries: readonly LockEntry[]): Promise<void> {
    await this.#moveSequences(entries);
    await this.#evict(keysOf(entries));
  }

  /**
   * Takes several round trips. All sequences go before the first entry, as on a single server, and on all nodes. A key
   * that moves from a node not yet scanned to one that has been is void there already: it is in another term.
   */
  async clear(prefix: string): Promise<void> {
    const [sequences, everything] = clearPatterns(prefix);
    for (let attempt = 1; ; attempt += 1) {
      const primaries = await this.#primaries();
      await onPrimaries(primaries, async () => {
        await this.#evictMatching(primaries, sequences);
        await this.#evictMatching(primaries, everything);
      });
      const now = new Set(await this.#primaries());
      if (now.size === primaries.length && primaries.every((primary) => now.has(primary))) {
        return;
      }
      if (attempt === CLEAR_ATTEMPTS) {
        throw new Error('The nodes of the Redis cluster keep changing, so not all entries may have been cleared.');
      }
    }
  }

  async ping(): Promise<void> {
    const primaries = await this.#primaries();
    await Promise.all(primaries.map((primary) => primary.call('PING', [])));
  }

  async close(): Promise<void> {
    await this.#redis.close();
  }

  /** @internal */
  send(command: string, args: readonly string[]): Promise<unknown> {
    return this.#redis.use((client) => client.call(command, [...args]));
  }

  /** @internal */
  async eachServer<T>(work: (client: RedisClientLike) => Promise<T>): Promise<T[]> {
    const primaries = await this.#primaries();
    return this.#redis.use(() => Promise.all(primaries.map(work)));
  }

  async #fillLeased(entries: readonly FillEntry[], stored: Stored, written: Map<FillEntry, boolean>): Promise<void> {
    await inWaves(entries, async (entry) => {
      const token = entry.permit.kind === 'lease' ? entry.permit.token : '';
      const reply = await this.#redis.run(FILL, [entry.key], ['1', '0', token, ...stored.get(entry)!]);
      written.set(entry, (reply as [number])[0] === 1);
    });
  }

  /** The three steps that `cluster-scripts.ts` describes. */
  async #fillGuarded(all: readonly Guarded[], stored: Stored, written: Map<FillEntry, boolean>): Promise<void> {
    const entries = all.filter(({ value }) => value !== undefined);
    const token = randomUUID();
    const pinned = new Map<Guarded, number>();
    await inWaves(entries, async (entry) => {
      const time = (await this.#redis.run(PIN, [entry.key], [token, String(PIN_MS)])) as string;
      if (time !== '') {
        pinned.set(entry, Number(time));
      }
    });

    const guards = new Map([...pinned.keys()].map(({ permit }) => [guardId(permit), permit]));
    const remaining = new Map<string, number>();
    await inWaves([...guards], async ([id, { region, sequence }]) => {
      remaining.set(id, Number(await this.#redis.run(CHECK, [sequenceKey(region)], [sequence])));
    });

    await inWaves([...pinned], async ([entry, time]) => {
      const left = remaining.get(guardId(entry.permit)) ?? 0;
      if (left > 0) {
        const args = [token, String(time + left), ...stored.get(entry)!];
        written.set(entry, (await this.#redis.run(FILL_PINNED, [entry.key], args)) === 1);
      }
    });
  }

  /** Deletes the sequences of entries. To be awaited before the entries are touched: see `cluster-scripts.ts`. */
  async #moveSequences(entries: readonly LockEntry[]): Promise<void> {
    await inWaves([...sequencesOf(entries)], (key) => this.#redis.use((client) => client.call('DEL', [key])));
  }

  async #evict(keys: readonly string[]): Promise<void> {
    await inWaves(keys, (key) => this.#redis.run(EVICT, [key], ['1']));
  }

  async #evictMatching(primaries: readonly RedisClientLike[], pattern: string): Promise<void> {
    await Promise.all(
      primaries.map(async (primary) => {
        for await (const keys of scan(primary, pattern)) {
          await this.#evict(keys);
        }
      }),
    );
  }

  /** The primaries, as the cluster names them now. */
  #primaries(): Promise<RedisClientLike[]> {
    return this.#redis.use(async (client) => {
      // A client that connects at its first command does it now.
      await client.call('PING', []);
      await new Promise<void>((resolve, reject) => {
        client.refreshSlotsCache((error) => (error ? reject(error) : resolve()));
      });
      return client.nodes('master');
    });
  }
}

function assertKind(cluster: boolean): void {
  if (!cluster) {
    throw new ConfigurationError('This is not Redis Cluster, and needs a RedisStore.');
  }
}

type Stored = ReadonlyMap<FillEntry, [stored: string, ttlMs: string]>;

function guardId(permit: Guarded['permit']): string {
  return JSON.stringify([permit.region, permit.sequence]);
}

/**
 * Divides a batch so that each part names a key once, in the order of the batch: what is sent together for one key could
 * arrive in any order when the cluster redirects it. Nearly always it is one part.
 */
function rounds(entries: readonly FillEntry[]): FillEntry[][] {
  const parts: FillEntry[][] = [];
  const seen = new Map<string, number>();
  for (const entry of entries) {
    const part = seen.get(entry.key) ?? 0;
    seen.set(entry.key, part + 1);
    (parts[part] ??= []).push(entry);
  }
  return parts;
}

/** Sends what belongs to the entries, all together, but not more than {@link PART_SIZE} at a time. */
async function inWaves<T, R>(entries: readonly T[], send: (entry: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < entries.length; at += PART_SIZE) {
    results.push(...(await Promise.all(entries.slice(at, at + PART_SIZE).map(send))));
  }
  return results;
}

/** As {@link onPrimary}, for several servers at once. */
function onPrimaries(primaries: readonly RedisClientLike[], work: () => Promise<void>): Promise<void> {
  return primaries.reduce((inner, primary) => () => onPrimary(primary, inner), work)();
}
