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
import { assertUsableClient, createRedisClient, type RedisAccess, type RedisClientLike } from './redis-client.js';
import { parseTopologyUrl, topologyOf } from './redis-url.js';
import { RedisConnection } from './RedisConnection.js';
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
import { EVICT, FILL, GUARD, LOCK, READ, RELEASE } from './scripts.js';

/**
 * A store in Redis 6.2 or later, or Valkey, shared by all processes: one server, or the primary that Sentinel names. A
 * batch is one round trip: one script call, or several sent together when it has more than 1000 entries. Redis Cluster
 * has a store of its own, {@link RedisClusterStore}.
 *
 * Commands are sent once and neither timed nor retried here. Data that comes back from the past (a restart from a
 * snapshot, failover to a replica that lags) counts as absent: see the terms in `scripts.ts`, and docs/operations.md for
 * what that can't cover. Under `maxmemory`, prefer an `allkeys-lru` policy: `volatile-ttl` throws out what expires first,
 * and so the soft locks.
 */
export class RedisStore implements CacheStore, RedisAccess {
  readonly capabilities: StoreCapabilities = Object.freeze({ softLocks: true, shared: true });

  readonly #redis: RedisConnection<RedisClientLike>;

  /**
   * @param source a `redis://`, `rediss://`, `redis+sentinel://` or `rediss+sentinel://` URL (the store opens its own
   *   connection at first use, and closes it), or a client, which stays its maker's to close.
   */
  constructor(source: string | RedisClientLike) {
    if (typeof source === 'string') {
      if (topologyOf(source)) {
        assertKind(parseTopologyUrl(source).kind === 'sentinel');
      }
      this.#redis = new RedisConnection(() => createRedisClient(source));
    } else {
      assertKind(source.isCluster !== true);
      assertUsableClient(source);
      this.#redis = new RedisConnection(source);
    }
  }

  async readMany(keys: readonly string[], options: ReadOptions = {}): Promise<ReadResult[]> {
    const leaseMs = options.leaseMs === undefined ? 0 : milliseconds('leaseMs', options.leaseMs);
    const token = randomUUID();
    const found = await inParts(
      keys,
      (part) => this.#redis.run(READ, part, [token, String(leaseMs)]) as Promise<string[]>,
    );
    return found.flat().map((reply) => readResult(reply, token));
  }

  async guard(region: string, options: GuardOptions = {}): Promise<string> {
    const guardMs = milliseconds('guardMs', options.guardMs ?? DEFAULT_GUARD_MS);
    const args = [randomUUID(), String(SEQUENCE_MS), String(guardMs)];
    return (await this.#redis.run(GUARD, [sequenceKey(region)], args)) as string;
  }

  async fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    const written = await inParts(entries, async (part) => {
      const keys = part.map(({ key }) => key);
      const positions = new Map<string, number>();
      const args = [String(part.length)];
      for (const { value, ttlMs, permit } of part) {
        if (permit.kind === 'lease') {
          args.push('0', permit.token);
        } else {
          const key = sequenceKey(permit.region);
          if (!positions.has(key)) {
            positions.set(key, keys.push(key));
          }
          args.push(String(positions.get(key)), permit.sequence);
        }
        args.push(...storedValue(value, ttlMs));
      }
      return this.#redis.run(FILL, keys, args) as Promise<number[]>;
    });
    return written.flat().map((flag) => flag === 1);
  }

  async lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    const args = [holder, String(milliseconds('lockMs', lockMs))];
    await inParts(entries, (part) => this.#redis.run(LOCK, keysOf(part), args));
  }

  async releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void> {
    await inParts(entries, (part) => {
      const values = part.flatMap(({ value, ttlMs }) => storedValue(value, ttlMs));
      return this.#redis.run(
        RELEASE,
        [...keysOf(part), ...sequencesOf(part)],
        [String(part.length), holder, ...values],
      );
    });
  }

  async evictMany(entries: readonly LockEntry[]): Promise<void> {
    await inParts(entries, (part) =>
      this.#redis.run(EVICT, [...keysOf(part), ...sequencesOf(part)], [String(part.length)]),
    );
  }

  /**
   * Takes several round trips. All sequences go before the first entry: a fill under a guard that lands behind the scan
   * would survive it. A fill under a lease can't: its key has been there from the start, and SCAN returns such a key.
   */
  async clear(prefix: string): Promise<void> {
    await this.#redis.use((client) =>
      onPrimary(client, async () => {
        for (const pattern of clearPatterns(prefix)) {
          for await (const keys of scan(client, pattern)) {
            await this.#redis.run(EVICT, keys, [String(keys.length)]);
          }
        }
      }),
    );
  }

  async ping(): Promise<void> {
    await this.#redis.use((client) => client.call('PING', []));
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
    return [await this.#redis.use(work)];
  }
}

function assertKind(single: boolean): void {
  if (!single) {
    throw new ConfigurationError(
      'This is Redis Cluster, which needs a RedisClusterStore: `stores` of PlusSubscriber opens one.',
    );
  }
}

/**
 * Splits a large batch, so that no script keeps the server from its other clients for long. The parts go out together:
 * still one round trip. Entries don't depend on each other, and each part moves the sequences of its own regions.
 */
function inParts<T, R>(entries: readonly T[], send: (part: readonly T[]) => Promise<R>): Promise<R[]> {
  if (entries.length > 0 && entries.length <= PART_SIZE) return send(entries).then((result) => [result]);
  const parts: Promise<R>[] = [];
  for (let at = 0; at < entries.length; at += PART_SIZE) {
    parts.push(send(entries.slice(at, at + PART_SIZE)));
  }
  return Promise.all(parts);
}
