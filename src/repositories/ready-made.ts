import { EntityRepository } from '@mikro-orm/postgresql';
import { AlwaysGetOrCreate } from './AlwaysGetOrCreate.js';
import { CachedGetOrCreate } from './CachedGetOrCreate.js';
import { GetOrCreate } from './GetOrCreate.js';
import { NonAtomicGetOrCreate } from './NonAtomicGetOrCreate.js';

/** `getOrCreate` and its relatives, uncached and atomic. */
export class GetOrCreateRepo<E extends object> extends GetOrCreate(EntityRepository)<E> {}

/** {@link GetOrCreateRepo} with {@link CachedGetOrCreate}. */
export class CachedRepo<E extends object> extends CachedGetOrCreate(EntityRepository)<E> {}

/** {@link GetOrCreateRepo} with {@link AlwaysGetOrCreate}. */
export class AlwaysRepo<E extends object> extends AlwaysGetOrCreate(EntityRepository)<E> {}

/** {@link GetOrCreateRepo} with {@link NonAtomicGetOrCreate}. */
export class NonAtomicRepo<E extends object> extends NonAtomicGetOrCreate(EntityRepository)<E> {}

/** {@link NonAtomicGetOrCreate} and {@link AlwaysGetOrCreate}. */
export class NonAtomicAlwaysRepo<E extends object> extends NonAtomicGetOrCreate(
  AlwaysGetOrCreate(EntityRepository),
)<E> {}

/** {@link AlwaysGetOrCreate} and {@link CachedGetOrCreate}. */
export class AlwaysCachedRepo<E extends object> extends AlwaysGetOrCreate(CachedGetOrCreate(EntityRepository))<E> {}

/** {@link NonAtomicGetOrCreate} and {@link CachedGetOrCreate}. */
export class NonAtomicCachedRepo<E extends object> extends NonAtomicGetOrCreate(
  CachedGetOrCreate(EntityRepository),
)<E> {}

/** All three mixins: cached, always, non-atomic. */
export class PlusRepo<E extends object> extends CachedGetOrCreate(
  AlwaysGetOrCreate(NonAtomicGetOrCreate(EntityRepository)),
)<E> {}
