import type { EntityCtor, EntityName, EntityRepositoryType, EntitySchemaWithMeta } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { PlusRepo } from './ready-made.js';

/** An entity whose `em.getRepository()` is typed as `R`. */
export type WithRepository<E extends object, R> = E & { [EntityRepositoryType]?: R };

/**
 * Gives an entity made by `defineEntity()` a repository class of this library. The option `repository` of
 * `defineEntity()` can't carry the entity's type; this does.
 *
 * ```ts
 * export const Tag = withRepo(defineEntity({ name: 'Tag', properties: { … } }), CachedRepo);
 * ```
 *
 * @returns the same schema, with the repository's type
 */
export function withRepo<
  Name extends string,
  Table extends string,
  E extends object,
  Base,
  Properties extends Record<string, unknown>,
  Ctor extends EntityCtor,
  Discriminator extends string | undefined,
  R,
>(
  schema: EntitySchemaWithMeta<Name, Table, E, Base, Properties, Ctor, Discriminator>,
  repository: new (em: EntityManager, entityName: EntityName<E>) => R,
): EntitySchemaWithMeta<
  Name,
  Table,
  WithRepository<E, R>,
  Base,
  Properties,
  EntityCtor<WithRepository<E, R>>,
  Discriminator
> {
  schema.setCustomRepository(() => repository);
  return schema;
}

/**
 * {@link withRepo} with {@link PlusRepo}.
 *
 * ```ts
 * export const Tag = withPlusRepo(defineEntity({ name: 'Tag', properties: { … } }));
 * const [tag, created] = await em.getRepository(Tag).getOrCreate({ name: 'orm' });
 * ```
 */
export function withPlusRepo<
  Name extends string,
  Table extends string,
  E extends object,
  Base,
  Properties extends Record<string, unknown>,
  Ctor extends EntityCtor,
  Discriminator extends string | undefined,
>(
  schema: EntitySchemaWithMeta<Name, Table, E, Base, Properties, Ctor, Discriminator>,
): EntitySchemaWithMeta<
  Name,
  Table,
  WithRepository<E, PlusRepo<E>>,
  Base,
  Properties,
  EntityCtor<WithRepository<E, PlusRepo<E>>>,
  Discriminator
> {
  schema.setCustomRepository(() => PlusRepo);
  return schema;
}
