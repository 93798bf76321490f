import { Utils, type EntityName, type EntityRepository } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { LookupError } from '../errors.js';
import { planFor } from '../natural-keys/plan.js';
import type { GetOrCreateResult, LookupOptions, Values, Where } from '../types.js';
import { GetOrCreate, type RepositoryClass } from './GetOrCreate.js';
import type { AlwaysMembers, GetOrCreateMembers } from './members.js';
import { lookupOf, openCall } from './open-call.js';

interface Core<E extends object> extends EntityRepository<E> {
  getOrCreate(where: Where<E>, defaults?: Values<E>, options?: LookupOptions<E>): Promise<GetOrCreateResult<E>>;
}

type InnerClass = new <E extends object>(em: EntityManager, entityName: EntityName<E>) => Core<E>;

/** Options of `findOneOrFail()` that a get-or-create understands. */
const understood = new Set(['refresh', 'schema', 'populate', 'filters', 'signal', 'failHandler', 'logging']);

/**
 * Turns every get into a get-or-create: adds `get()`, and makes `findOneOrFail()` create a row when its `where` is a
 * plain lookup that a unique constraint serves. A read for write (`lockMode`) and any other query stay what they are.
 */
export function AlwaysGetOrCreate<E extends object, R extends EntityRepository<E>>(
  Base: RepositoryClass<E, R>,
): RepositoryClass<E, R & GetOrCreateMembers<E> & AlwaysMembers<E>> {
  class AlwaysRepository<T extends object> extends (GetOrCreate(Base as never) as unknown as InnerClass)<T> {
    async get(where: Where<T>, options: LookupOptions<T> = {}): Promise<T> {
      if (options.lockMode !== undefined) return await super.findOneOrFail(where as never, options as never);
      const [entity] = await this.getOrCreate(where, {}, options);
      return entity;
    }

    override async findOneOrFail(where: never, options?: never): Promise<never> {
      if (!isLookup(this, where, options ?? {})) return (await super.findOneOrFail(where, options)) as never;
      const { failHandler: _, ...rest } = (options ?? {}) as { failHandler?: unknown };
      return (await this.get(where, rest)) as never;
    }
  }
  return AlwaysRepository as never;
}

function isLookup(repository: { getEntityManager(): unknown }, where: unknown, options: object): boolean {
  const asked = Object.entries(options).filter(([, value]) => value !== undefined);
  if (!Utils.isPlainObject(where) || !asked.every(([name]) => understood.has(name))) return false;
  try {
    const call = openCall(repository);
    return planFor(call.target.driver, lookupOf(call, where)).key !== undefined;
  } catch (error) {
    if (error instanceof LookupError) return false;
    throw error;
  }
}
