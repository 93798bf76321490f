import { Utils, type EntityName } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { isToOne, type Meta } from './metadata.js';

/**
 * Whether an enabled filter narrows what a query for this entity returns: one of the entity itself or, since MikroORM
 * joins to-one relations for their filters, one of a relation's target. A filter that can't be evaluated (missing
 * parameters) counts, so that MikroORM's own query answers, or complains.
 */
export function isFiltered(em: EntityManager, meta: Meta, filters: unknown): boolean | Promise<boolean> {
  if (filters === false) return false;
  const narrowing: Promise<boolean>[] = [];
  for (const each of em.config.get('autoJoinRefsForFilters') ? withTargets(meta) : [meta]) {
    const result = narrows(em, each, filters);
    if (result) narrowing.push(result);
  }
  return narrowing.length > 0 && Promise.all(narrowing).then((results) => results.includes(true));
}

const joined = new WeakMap<Meta, readonly Meta[]>();

/** The entity and the targets of its to-one relations. */
function withTargets(meta: Meta): readonly Meta[] {
  let metas = joined.get(meta);
  if (!metas) {
    const targets = meta.relations
      .filter(isToOne)
      .flatMap((prop) => (prop.polymorphTargets ?? [prop.targetMeta]) as (Meta | undefined)[]);
    metas = [...new Set([meta, ...targets.filter((target) => target !== undefined)])];
    joined.set(meta, metas);
  }
  return metas;
}

/** Notices when a promise is resolved with it, since that looks at its `then` at once. */
class Condition {
  isReturned = false;

  // oxlint-disable-next-line unicorn/no-thenable -- it is looked at, and never called
  get then(): undefined {
    this.isReturned = true;
    return undefined;
  }
}

const unfiltered = Object.defineProperty(new Condition(), 'isReturned', { enumerable: false });
const noOptions = Object.freeze({});

/**
 * Whether filters of one entity narrow a query; known at once when none is enabled. Filters that were added to an
 * EntityManager can't be listed, but then `applyFilters()` returns the very condition that it was given.
 */
function narrows(em: EntityManager, meta: Meta, filters: unknown): false | Promise<boolean> {
  unfiltered.isReturned = false;
  const options = (filters ?? noOptions) as never;
  const applied = em.applyFilters(meta.class as EntityName<object>, unfiltered, options, 'read', noOptions);
  if (unfiltered.isReturned) return false;
  return applied.then(
    (narrowed) => !Utils.isEmpty(narrowed),
    () => true,
  );
}
