import { Utils, type EntityName } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { isToOne, type Meta } from './metadata.js';

/**
 * Whether an enabled filter narrows what a query for this entity returns: one of the entity itself or, since MikroORM
 * joins to-one relations for their filters, one of a relation's target. A filter that can't be evaluated (missing
 * parameters) counts, so that MikroORM's own query answers, or complains.
 */
export async function isFiltered(em: EntityManager, meta: Meta, filters: unknown): Promise<boolean> {
  if (filters === false) return false;
  if (await hasFilter(em, meta, filters)) return true;
  if (!em.config.get('autoJoinRefsForFilters')) return false;
  const targets = new Set(
    meta.relations
      .filter(isToOne)
      .flatMap((prop) => (prop.polymorphTargets ?? [prop.targetMeta]) as (Meta | undefined)[]),
  );
  for (const target of targets) {
    if (target && (await hasFilter(em, target, filters))) return true;
  }
  return false;
}

async function hasFilter(em: EntityManager, meta: Meta, filters: unknown): Promise<boolean> {
  try {
    const condition = await em.applyFilters(meta.class as EntityName<object>, {}, (filters ?? {}) as never, 'read', {});
    return !Utils.isEmpty(condition);
  } catch {
    return true;
  }
}
