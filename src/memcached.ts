/**
 * The Memcached store, exported as `mikro-orm-plus/memcached`.
 *
 * @module mikro-orm-plus/memcached
 */
export { MemcachedStore, openMemcachedStore } from './stores/memcached/MemcachedStore.js';
export type { MemcachedConnection, MemcachedServerSource } from './stores/memcached/servers.js';
