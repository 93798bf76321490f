import { Utils, type EntityName, type EntityRepository, type FilterQuery } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { primaryKeyText } from '../codec/primary-key.js';
import type { Call } from '../flows/call.js';
import { coverKeyChange, coverUpsert, coverWrite, type WriteOptions } from '../flows/native-writes.js';
import { entitySchema } from '../orm/entities.js';
import { PlusSubscriber } from '../PlusSubscriber.js';
import type { GetOrCreateResult, UpdateItem, WarmUpOptions, Where } from '../types.js';
import { GetOrCreate, type RepositoryClass } from './GetOrCreate.js';
import type { CachedMembers, GetOrCreateMembers } from './members.js';
import { openCall, type PlusRepository } from './open-call.js';
import { CACHED, mark } from '../config/traits.js';

type InnerClass = new <E extends object>(
  em: EntityManager,
  entityName: EntityName<E>,
) => EntityRepository<E> & GetOrCreateMembers<E>;

/**
 * Keeps the results of `getOrCreate` and `updateOrCreate` in an entity cache: lookup -> primary key in the `default`
 * store, primary key -> row in the store of the entity's region. Needs a registered `PlusSubscriber`.
 *
 * `nativeUpdate()`, `nativeDelete()`, `upsert()` and `upsertMany()` of such a repository keep the cache honest too, in a
 * transaction of their own where there is none; the bulk writes of the EntityManager don't know of it.
 */
export function CachedGetOrCreate<E extends object, R extends EntityRepository<E>>(
  Base: RepositoryClass<E, R>,
): RepositoryClass<E, R & GetOrCreateMembers<E> & CachedMembers<E>> {
  class CachedRepository<T extends object> extends (GetOrCreate(Base as never) as unknown as InnerClass)<T> {
    async evict(target: T | Where<T>): Promise<void> {
      const {
        em,
        meta,
        target: { schema },
      } = openCall(this);
      const service = PlusSubscriber.of(em)!;
      if (Utils.isEntity<object>(target)) {
        await service.evictKeys(em, meta, entitySchema(target) ?? schema, [primaryKeyText(target)]);
      } else {
        await service.evictWhere(em, meta, schema, target);
      }
    }

    async evictAll(): Promise<void> {
      const { em, meta } = openCall(this);
      await PlusSubscriber.of(em)!.evictRegion(em, meta);
    }

    async warmUp(where?: FilterQuery<T>, options?: WarmUpOptions): Promise<number> {
      const { em, meta, target } = openCall(this);
      const schema = options?.schema ?? target.schema;
      return PlusSubscriber.of(em)!.warmUpRegion(em, meta, schema, where, options);
    }

    override async updateOrCreateMany(
      items: readonly UpdateItem<T>[],
      options?: object,
    ): Promise<GetOrCreateResult<T>[]> {
      const call = callFor(this, options);
      const update = () => super.updateOrCreateMany(items, options);
      const rekeyed = items.filter(({ values }) => call.meta.primaryKeys.some((name) => Object.hasOwn(values, name)));
      return rekeyed.length === 0
        ? update()
        : coverKeyChange(
            call,
            rekeyed.map(({ where }) => where),
            update,
          );
    }

    override async nativeUpdate(where: never, data: never, options?: never): Promise<number> {
      const run = (covered: unknown) => super.nativeUpdate(covered as never, data, options);
      return coverWrite(callFor(this, options), { kind: 'update', where, data, options, run });
    }

    override async nativeDelete(where: never, options?: never): Promise<number> {
      const run = (covered: unknown) => super.nativeDelete(covered as never, options);
      return coverWrite(callFor(this, options), { kind: 'delete', where, options, run });
    }

    override async upsert(entityOrData?: never, options?: never): Promise<T> {
      return coverUpsert(callFor(this, options), options, () => super.upsert(entityOrData, options));
    }

    override async upsertMany(entitiesOrData?: never, options?: never): Promise<T[]> {
      return coverUpsert(callFor(this, options), options, () => super.upsertMany(entitiesOrData, options));
    }
  }
  mark(CachedRepository, CACHED);
  return CachedRepository as never;
}

/** The call of a bulk write of MikroORM's: of its options, the schema alone says something about the cache. */
function callFor(repository: PlusRepository, options: WriteOptions | undefined): Call {
  return openCall(repository, options?.schema === undefined ? {} : { schema: options.schema });
}
