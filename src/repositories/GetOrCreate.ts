import type { Collection, EntityName, EntityRepository } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { handleOf, type Call, type CreationContext } from '../flows/call.js';
import { getOrCreate } from '../flows/get-or-create.js';
import { relatedTo } from '../flows/related.js';
import { updateOrCreate } from '../flows/update-or-create.js';
import { traceCall, type CallMessage } from '../observability/channels.js';
import type {
  CollectionOf,
  GetOrCreateResult,
  LookupOptions,
  ManyDefaults,
  ManyOptions,
  RelatedRepository,
  UpdateItem,
  UpdateOptions,
  Values,
  Where,
} from '../types.js';
import { checkData, lookupOf, openCall } from './open-call.js';
import type { GetOrCreateMembers } from './members.js';
import { CORE, hasTrait, mark, noteOwnCreateEntity } from '../config/traits.js';

/**
 * A repository class as the mixins take and give it. The construct signature isn't generic itself: TypeScript then
 * carries the type parameter of the class through, so that the result is generic again and keeps all its members.
 */
export type RepositoryClass<E extends object, R> = new (em: EntityManager, entityName: EntityName<E>) => R;

/** The same class, as seen from inside a mixin. */
type InnerClass = new <E extends object>(em: EntityManager, entityName: EntityName<E>) => EntityRepository<E>;

/**
 * Adds `getOrCreate`, `updateOrCreate`, their batches, `related` and `createEntity` to a repository class. The other
 * mixins apply it by themselves.
 */
export function GetOrCreate<E extends object, R extends EntityRepository<E>>(
  Base: RepositoryClass<E, R>,
): RepositoryClass<E, R & GetOrCreateMembers<E>> {
  if (hasTrait(Base.prototype as object, CORE)) return Base as never;

  class GetOrCreateRepository<T extends object> extends (Base as unknown as InnerClass)<T> {
    async getOrCreate(
      where: Where<T>,
      defaults?: Values<T>,
      options?: LookupOptions<T>,
    ): Promise<GetOrCreateResult<T>> {
      const call = openCall(this, options);
      const request = { lookup: lookupOf(call, where), defaults: checkData(call, 'defaults', defaults) };
      const results = traced(call, 'getOrCreate', 1, () => getOrCreate(call, [request]));
      const [result] = Array.isArray(results) ? results : await results;
      return result as GetOrCreateResult<T>;
    }

    async getOrCreateMany(
      wheres: readonly Where<T>[],
      defaults?: ManyDefaults<T>,
      options?: ManyOptions<T>,
    ): Promise<GetOrCreateResult<T>[]> {
      const call = openCall(this, options);
      let common: Values<T> | undefined;
      const defaultsOf = (where: Where<T>, index: number) =>
        typeof defaults === 'function'
          ? checkData(call, 'defaults', defaults(where, index))
          : (common ??= checkData(call, 'defaults', defaults) as Values<T>);
      const requests = wheres.map((where, index) => ({
        lookup: lookupOf(call, where),
        defaults: defaultsOf(where, index),
      }));
      const work = () => getOrCreate(call, requests);
      return (await traced(call, 'getOrCreate', requests.length, work)) as GetOrCreateResult<T>[];
    }

    async updateOrCreate(
      where: Where<T>,
      values: Values<T>,
      options?: UpdateOptions<T>,
    ): Promise<GetOrCreateResult<T>> {
      const { createDefaults, ...rest } = options ?? {};
      const [result] = await this.updateOrCreateMany(
        [{ where, values, ...(createDefaults && { createDefaults }) }],
        rest,
      );
      return result!;
    }

    async updateOrCreateMany(
      items: readonly UpdateItem<T>[],
      options?: Omit<UpdateOptions<T>, 'createDefaults'>,
    ): Promise<GetOrCreateResult<T>[]> {
      const call = openCall(this, options);
      const requests = items.map(({ where, values, createDefaults }) => ({
        lookup: lookupOf(call, where),
        values: checkData(call, 'values', values),
        createDefaults: createDefaults && checkData(call, 'createDefaults', createDefaults),
      }));
      const work = () => updateOrCreate(call, requests);
      return (await traced(call, 'updateOrCreate', requests.length, work)) as GetOrCreateResult<T>[];
    }

    related(collection: CollectionOf<T>): RelatedRepository<T> {
      const items = collection as unknown as Collection<object>;
      return relatedTo(this, items, () => openCall(this)) as unknown as RelatedRepository<T>;
    }

    protected async createEntity(data: Values<T>, context: CreationContext): Promise<T> {
      return (await handleOf(context).insert(data)) as T;
    }
  }

  mark(GetOrCreateRepository, CORE);
  noteOwnCreateEntity((GetOrCreateRepository.prototype as unknown as { createEntity: object }).createEntity);
  return GetOrCreateRepository as never;
}

/** Runs a call between the messages of the call channel. */
function traced<T>(
  call: Call,
  operation: CallMessage['operation'],
  size: number,
  work: () => T | Promise<T>,
): T | Promise<T> {
  return traceCall(() => ({ operation, entity: call.meta.className, table: call.meta.tableName, size }), work);
}
