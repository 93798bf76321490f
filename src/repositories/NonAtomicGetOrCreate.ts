import type { EntityName, EntityRepository } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { GetOrCreate, type RepositoryClass } from './GetOrCreate.js';
import type { GetOrCreateMembers } from './members.js';
import { NON_ATOMIC, mark } from '../config/traits.js';

type InnerClass = new <E extends object>(em: EntityManager, entityName: EntityName<E>) => EntityRepository<E>;

/**
 * Makes `getOrCreate` open no transaction and no savepoint of its own: inside a transaction it joins the caller's,
 * outside it runs single statements. An overridden `createEntity()` is then no unit of its own either.
 */
export function NonAtomicGetOrCreate<E extends object, R extends EntityRepository<E>>(
  Base: RepositoryClass<E, R>,
): RepositoryClass<E, R & GetOrCreateMembers<E>> {
  class NonAtomicRepository<T extends object> extends (GetOrCreate(Base as never) as unknown as InnerClass)<T> {}
  mark(NonAtomicRepository, NON_ATOMIC);
  return NonAtomicRepository as never;
}
