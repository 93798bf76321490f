import { ConfigurationError } from '../errors.js';
import type { Meta } from '../orm/metadata.js';
import type { RegionOptions } from './region-options.js';

/** What a region can be declared for: an entity class, or what `defineEntity()` and `new EntitySchema()` return. */
export type RegionTarget =
  (abstract new (...args: never[]) => object) | { readonly meta: { readonly class?: unknown } };

const ofClasses = new WeakMap<object, RegionOptions>();

/** Schemas are looked up by the class that they have in the end: `setClass()` may still change it. */
const ofSchemas: {
  readonly schema: { readonly meta: { readonly class?: unknown } };
  readonly options: RegionOptions;
}[] = [];

/**
 * Declares how an entity's rows are cached; for `defineEntity()` and `EntitySchema`, where a decorator can't be put.
 * Repositories without a declaration use the defaults of `PlusSubscriber`.
 *
 * ```ts
 * export const Tag = cacheRegion(withPlusRepo(defineEntity({ name: 'Tag', properties: { … } })), { store: 'redis' });
 * ```
 *
 * @returns the entity it was given
 * @throws {ConfigurationError} when it is no entity; options are checked at the entity's first use
 */
export function cacheRegion<T extends RegionTarget>(entity: T, options: RegionOptions): T {
  if (typeof entity === 'function') ofClasses.set(entity, { ...options });
  else if (typeof entity === 'object' && entity !== null && 'meta' in entity) {
    ofSchemas.push({ schema: entity, options: { ...options } });
  } else throw new ConfigurationError('cacheRegion() takes an entity class or an EntitySchema.');
  return entity;
}

/**
 * {@link cacheRegion} as a class decorator, for ES and legacy decorators alike.
 *
 * ```ts
 * @Entity({ repository: () => PlusRepo })
 * @CacheRegion({ store: 'redis', ttl: 600_000 })
 * export class Tag { … }
 * ```
 */
export function CacheRegion(
  options: RegionOptions,
): (target: abstract new (...args: never[]) => object, context?: unknown) => void {
  return (target) => {
    cacheRegion(target, options);
  };
}

export function isRegionDeclared(meta: Meta): boolean {
  return ownRegion(meta) !== undefined;
}

/** The options declared for an entity; a class of a single-table hierarchy inherits its root's. */
export function declaredRegion(meta: Meta): RegionOptions {
  return ownRegion(meta) ?? ownRegion(meta.root) ?? {};
}

function ownRegion(meta: Meta): RegionOptions | undefined {
  return (
    ofClasses.get(meta.class as object) ?? ofSchemas.findLast(({ schema }) => schema.meta.class === meta.class)?.options
  );
}
