/**
 * Get-or-create repositories, the entity cache and its stores.
 *
 * @module mikro-orm-plus
 */
export { PlusSubscriber } from './PlusSubscriber.js';
export { AlwaysGetOrCreate } from './repositories/AlwaysGetOrCreate.js';
export { CachedGetOrCreate } from './repositories/CachedGetOrCreate.js';
export { GetOrCreate, type RepositoryClass } from './repositories/GetOrCreate.js';
export { NonAtomicGetOrCreate } from './repositories/NonAtomicGetOrCreate.js';
export type { AlwaysMembers, CachedMembers, GetOrCreateMembers } from './repositories/members.js';
export {
  AlwaysCachedRepo,
  AlwaysRepo,
  CachedRepo,
  GetOrCreateRepo,
  NonAtomicAlwaysRepo,
  NonAtomicCachedRepo,
  NonAtomicRepo,
  PlusRepo,
} from './repositories/ready-made.js';
export { withPlusRepo, withRepo } from './repositories/with-repo.js';
export { CacheRegion, cacheRegion } from './config/cache-region.js';
export type { NearCacheOptions, RegionOptions, RegionStrategy } from './config/region-options.js';
export type { RelayOptions } from './config/relay-options.js';
export type { PlusOptions } from './PlusOptions.js';
export { CreationContext } from './flows/call.js';
export type { OnProgress, Progress } from './flows/progress.js';
export {
  ConfigurationError,
  LookupError,
  MissingUniqueConstraintError,
  MultipleRowsError,
  PlusError,
  ReadOnlyRegionError,
  StoreError,
  TransactionContextError,
} from './errors.js';
export type {
  CacheEvent,
  CacheMessage,
  CallMessage,
  CircuitMessage,
  CommitMessage,
  LookupMessage,
  RelayMessage,
  ServedBy,
  StoreMessage,
} from './observability/channels.js';
export { PLUS_LOGS } from './observability/log.js';
export type { RelayRole, RelayStatus } from './observability/relay-status.js';
export type { Statistics } from './observability/statistics.js';
export type * from './stores/CacheStore.js';
export { MemoryStore, type MemoryStoreOptions } from './stores/MemoryStore.js';
export { RedisClusterStore } from './stores/redis/RedisClusterStore.js';
export type { RedisClientLike, RedisClusterLike } from './stores/redis/redis-client.js';
export { RedisStore } from './stores/redis/RedisStore.js';
export type { StoreSource } from './stores/open-store.js';
export type {
  GetOrCreateResult,
  Lazy,
  LookupOptions,
  ManyDefaults,
  ManyOptions,
  RelatedRepository,
  UpdateItem,
  UpdateOptions,
  Values,
  WarmUpOptions,
  Where,
} from './types.js';
