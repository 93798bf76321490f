import type { Redis, RedisOptions } from 'ioredis';
import { ConfigurationError } from '../errors.js';
import type { StoreSource } from '../stores/open-store.js';

/** Makes one more connection to a server; it connects when it is told to. */
export type ConnectRedis = (options: RedisOptions) => Redis;

/**
 * What connections for client-side caching can be made from: a store's `redis://` or `rediss://` URL, its `ioredis`
 * client, which is duplicated, or a function that makes a connection with the options it is given.
 */
export type TrackingSource = StoreSource | ConnectRedis;

/**
 * Options of a connection that lives once. It never reconnects by itself: a second life would come without tracking,
 * and what was changed in between would go unnoticed.
 */
export const trackingConnection: RedisOptions = {
  connectionName: 'mikro-orm-plus-near-cache',
  lazyConnect: true,
  // ioredis drops invalidations that arrive as RESP3 pushes
  protocol: 2,
  retryStrategy: () => null,
  reconnectOnError: null,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  // a server that is loading answers with errors, which is all that there is to know
  enableReadyCheck: false,
  connectTimeout: 2_000,
  // what a client that is duplicated here may have set for its own use
  readOnly: false,
  stringNumbers: false,
  enableAutoPipelining: false,
  monitor: false,
  commandTimeout: undefined,
  socketTimeout: undefined,
  himportFieldsets: undefined,
  failoverDetector: false,
};

/**
 * Finds the way to make connections. `ioredis`, an optional peer dependency, is loaded when one is needed.
 *
 * @throws {ConfigurationError} at once, when the source is none or a client that can't follow one server's changes
 */
export function connector(source: TrackingSource): () => Promise<ConnectRedis> {
  if (typeof source === 'function') return () => Promise.resolve(source);
  if (typeof source === 'string') {
    // the URL itself may hold a password
    if (!/^rediss?:\/\//.test(source)) throw unusable('its URL does not start with redis:// or rediss://');
    return async () => {
      const { Redis } = await import('ioredis');
      return (options) => new Redis(source, options);
    };
  }
  if ('isCluster' in source && source.isCluster === true) throw unusable('it is a Redis Cluster');
  if (!canDuplicate(source)) throw unusable('it is neither a URL nor an ioredis client');
  return () => Promise.resolve((options) => source.duplicate(options));
}

function canDuplicate(source: object): source is { duplicate: ConnectRedis } {
  return 'duplicate' in source && typeof source.duplicate === 'function';
}

function unusable(reason: string): ConfigurationError {
  return new ConfigurationError(
    `A near cache can't be kept over this store: ${reason}. Use a single Redis server, or no near cache.`,
  );
}
