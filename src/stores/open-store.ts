import { ConfigurationError } from '../errors.js';
import type { CacheStore } from './CacheStore.js';
import { openMemcachedStore } from './memcached/MemcachedStore.js';
import { MemoryStore, type MemoryStoreOptions } from './MemoryStore.js';
import type { RedisClientLike, RedisClusterLike } from './redis/redis-client.js';
import { topologyOf } from './redis/redis-url.js';
import { RedisClusterStore } from './redis/RedisClusterStore.js';
import { RedisStore } from './redis/RedisStore.js';

/**
 * What a store can be opened from: a URL (`memory://`, `memory://?maxEntries=500`, `redis://…`, `redis+cluster://…`,
 * `redis+sentinel://…`, these three with `rediss` for TLS, `memcached://…`), a store, which is used as it is, or an `ioredis`
 * client (`Redis` or `Cluster`), which is used and stays open.
 */
export type StoreSource = string | CacheStore | RedisClientLike | RedisClusterLike;

/** What a URL that doesn't say otherwise gets. */
export type StoreDefaults = MemoryStoreOptions;

/** Opens a store. Nothing is connected yet: use `ping()` to find out early whether the store can be reached. */
export function openStore(source: StoreSource, defaults: StoreDefaults = {}): CacheStore {
  if (typeof source === 'string') {
    return openUrl(source, defaults);
  }
  if (typeof source === 'object' && source !== null) {
    if ('readMany' in source) {
      return source;
    }
    if ('call' in source && typeof source.call === 'function') {
      return isCluster(source) ? new RedisClusterStore(source) : new RedisStore(source);
    }
  }
  throw new ConfigurationError(`A store must be a URL, a CacheStore or an ioredis client. ${SCHEMES}`);
}

function isCluster(client: RedisClientLike): client is RedisClusterLike {
  return client.isCluster === true;
}

const SCHEMES =
  'URLs of stores start with memory://, redis:// or rediss://, redis+cluster://, or redis+sentinel:// (rediss+… for TLS), ' +
  'or memcached://.';

/** Messages never show the URL: it may hold a password. */
function openUrl(text: string, defaults: StoreDefaults): CacheStore {
  // several servers in one URL are no URL to parse
  if (/^memcached:\/\//i.test(text)) return openMemcachedStore(text);
  switch (topologyOf(text)) {
    case 'cluster':
      return new RedisClusterStore(text);
    case 'sentinel':
      return new RedisStore(text);
    case undefined:
  }
  const url = URL.parse(text);
  switch (url?.protocol) {
    case 'memory:':
      return new MemoryStore({ ...defaults, ...memoryOptions(url) });
    case 'redis:':
    case 'rediss:':
      return new RedisStore(text);
    case undefined:
      throw new ConfigurationError(`The URL of a store can't be parsed. ${SCHEMES}`);
    default:
      throw new ConfigurationError(`There is no store for ${url?.protocol}// URLs. ${SCHEMES}`);
  }
}

function memoryOptions(url: URL): MemoryStoreOptions {
  if (url.host !== '' || !['', '/'].includes(url.pathname)) {
    throw new ConfigurationError(
      'A memory:// URL has no host and no path: every such store is new and empty. Share one by passing a MemoryStore.',
    );
  }
  const unknown = [...url.searchParams.keys()].find((name) => name !== 'maxEntries');
  if (unknown !== undefined) {
    throw new ConfigurationError(`A memory:// URL has no option "${unknown}". It has maxEntries.`);
  }
  const maxEntries = url.searchParams.get('maxEntries');
  return maxEntries === null ? {} : { maxEntries: maxEntries === '' ? NaN : Number(maxEntries) };
}
