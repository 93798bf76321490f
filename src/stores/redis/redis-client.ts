import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';
import { ConfigurationError } from '../../errors.js';
import { parseTopologyUrl, topologyOf, type TopologyUrl } from './redis-url.js';

/**
 * What the store needs of a Redis client. An `ioredis` instance is one; another client needs an adapter of one method,
 * for node-redis: `{ call: (command, args) => client.sendCommand([command, ...args]) }`.
 */
export interface RedisClientLike {
  /** Sends one command and resolves to its reply, strings decoded as UTF-8; rejects with the server's error. */
  call(command: string, args: string[]): Promise<unknown>;
  /** `true` for a client of Redis Cluster, which is a {@link RedisClusterLike}. */
  readonly isCluster?: boolean;
  /** A client that rewrites keys (`keyPrefix` of ioredis) isn't supported. */
  readonly options?: { readonly keyPrefix?: string | undefined };
}

/** What the store needs of a client of Redis Cluster. A `Cluster` of `ioredis` is one. */
export interface RedisClusterLike extends RedisClientLike {
  /** `true`. */
  readonly isCluster: boolean;
  /** Sends one command to the primary of its key's slot, and follows MOVED and ASK; without a key, to any node. */
  call(command: string, args: string[]): Promise<unknown>;
  /** Clients of the primaries, as far as they are known. */
  nodes(role: 'master'): RedisClientLike[];
  /** Asks the cluster anew which nodes there are. */
  refreshSlotsCache(callback: (error?: Error | null) => void): void;
}

/** What the Redis stores offer beside the cache, for looking at their servers and for notes of the library's own. */
export interface RedisAccess {
  /** Sends one command about one key. */
  send(command: string, args: readonly string[]): Promise<unknown>;
  /** Lets `work` go to each server that entries are written to. */
  eachServer<T>(work: (client: RedisClientLike) => Promise<T>): Promise<T[]>;
}

/** Closes a client that was made here. */
export interface Disconnect {
  /** Closes the connection for good, at once. */
  disconnect(): void;
}

/**
 * How long an attempt to connect may take. With the longest pause between two attempts, and the pace of the probe, it
 * makes the 2 s after which a server that is back has been told what it missed.
 */
const CONNECT_MS = 1_000;

/** How long a cluster may take to say where its slots are. */
const SLOTS_MS = 2_000;

/** How long a command may be without any reply on its connection. */
const REPLY_MS = 1_000;

/** The pause before a client that has given up connects anew. */
const ANEW_MS = 100;

/** The time between two attempts to connect. */
const backoff = (attempt: number): number => Math.min(25 * 2 ** attempt, 500);

const COMMON = {
  connectionName: 'mikro-orm-plus',
  connectTimeout: CONNECT_MS,
  // A half-open connection is given up when a reply doesn't come: TCP would wait for minutes.
  socketTimeout: REPLY_MS,
} as const satisfies RedisOptions;

/**
 * Makes a client for a `redis://`, `rediss://`, `redis+sentinel://` or `rediss+sentinel://` URL. It connects at the first
 * command. `ioredis` is an optional peer dependency, imported only in this file.
 */
export async function createRedisClient(url: string): Promise<RedisClientLike & Disconnect> {
  const ioredis = await importIoredis();
  const options: RedisOptions = {
    ...COMMON,
    lazyConnect: true,
    // Commands wait for the first connection, and over one reconnect (sending one twice is harmless, see CacheStore);
    // then they fail, so that a server that is down costs no growing queue.
    enableOfflineQueue: true,
    maxRetriesPerRequest: 1,
    retryStrategy: backoff,
    // After a failover the old primary refuses writes on the open connection; the next one finds the new primary.
    reconnectOnError: (error) => error.message.includes('READONLY'),
  };
  const redis =
    topologyOf(url) === 'sentinel'
      ? new ioredis.Redis({ ...options, ...sentinelOptions(parseTopologyUrl(url)) })
      : new ioredis.Redis(url, options);
  // Every command that fails because of it rejects with the reason; without a listener ioredis prints it as well.
  redis.on('error', () => {});
  const closing = new AbortController();
  redis.on('end', () => void connectAnew(redis, closing.signal));
  return {
    call: (command, args) => redis.call(command, args),
    disconnect: () => {
      closing.abort();
      redis.disconnect();
    },
  };
}

/**
 * Whatever its `retryStrategy`, ioredis gives up for good when it is told of a failover while it looks for the primary:
 * every later command would fail.
 */
async function connectAnew(redis: Redis, signal: AbortSignal): Promise<void> {
  try {
    await delay(ANEW_MS, undefined, { ref: false, signal });
    await redis.connect();
  } catch {
    // closed meanwhile, or a failure that ends in `end` again
  }
}

function sentinelOptions(url: TopologyUrl): RedisOptions {
  return {
    sentinels: [...url.hosts],
    name: url.masterName,
    db: url.db,
    ...account(url),
    ...(url.sentinelUsername && { sentinelUsername: url.sentinelUsername }),
    ...(url.sentinelPassword && { sentinelPassword: url.sentinelPassword }),
    ...(url.tls && { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true }),
    // Listens to the sentinels: a primary that hangs, or is cut off, is left as soon as they have chosen another.
    failoverDetector: true,
    sentinelRetryStrategy: backoff,
  };
}

/** Makes a client for a `redis+cluster://` or `rediss+cluster://` URL. It connects at the first command. */
export async function createClusterClient(url: string): Promise<RedisClusterLike & Disconnect> {
  const ioredis = await importIoredis();
  const { hosts, tls, ...rest } = parseTopologyUrl(url);
  const options: ClusterOptions = {
    lazyConnect: true,
    clusterRetryStrategy: backoff,
    slotsRefreshTimeout: SLOTS_MS,
    // A cluster that is down would otherwise collect commands without end; `ready` waits for it instead.
    enableOfflineQueue: false,
    redisOptions: { ...COMMON, ...account(rest), ...(tls && { tls: {} }) },
    // Certificates are made for names: don't replace them by addresses.
    ...(tls && { dnsLookup: (address: string, callback: LookupCallback) => callback(null, address) }),
  };
  const cluster = new ioredis.Cluster([...hosts], options);
  cluster.on('error', () => {});
  return {
    isCluster: true,
    call: async (command, args) => {
      if (cluster.status !== 'ready') {
        await ready(cluster);
      }
      return cluster.call(command, args);
    },
    nodes: (role) => cluster.nodes(role),
    refreshSlotsCache: (callback) => cluster.refreshSlotsCache(callback),
    disconnect: () => cluster.disconnect(),
  };
}

type LookupCallback = (error: null, address: string) => void;

async function ready(cluster: Cluster): Promise<void> {
  const connected = once(cluster, 'ready', { signal: AbortSignal.timeout(SLOTS_MS) });
  if (cluster.status === 'wait') {
    cluster.connect().catch(() => {});
  }
  try {
    await connected;
  } catch (cause) {
    throw new Error('The Redis cluster cannot be reached.', { cause });
  }
}

function account({ username, password }: Pick<TopologyUrl, 'username' | 'password'>): RedisOptions {
  return { ...(username && { username }), ...(password && { password }) };
}

/** Refuses, in words, a client whose replies or keys would be wrong in ways that are hard to see. */
export function assertUsableClient(client: RedisClientLike): void {
  if (client.options?.keyPrefix) {
    throw new ConfigurationError(
      'The client of this Redis store has a `keyPrefix`. Use a client without one, and the `prefix` option of PlusSubscriber.',
    );
  }
}

async function importIoredis(): Promise<{ Redis: typeof Redis; Cluster: typeof Cluster }> {
  try {
    return await import('ioredis');
  } catch (cause) {
    throw new ConfigurationError('A redis:// store needs the package `ioredis`. Install it: npm install ioredis', {
      cause,
    });
  }
}
