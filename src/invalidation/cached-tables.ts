import type { EntityRepository } from '@mikro-orm/core';
import { unnameableReason } from '../codec/primary-key.js';
import { isRegionDeclared } from '../config/cache-region.js';
import { CACHED, hasTrait } from '../config/traits.js';
import { CHANGE_LOG_TABLE } from './change-log.js';
import { classesOfTable, uncacheableReason, type Meta } from '../orm/metadata.js';

/** All classes of an ORM: its `MetadataStorage`. */
export interface Classes extends Iterable<unknown> {
  get(entity: Meta['class']): unknown;
}

/** The part of MikroORM's configuration that knows the repository of an entity. */
export interface RepositoryLookup {
  getRepositoryClass(repository: Meta['repository']): unknown;
}

/**
 * Whether the rows of a table are cached: a class of it has a cached repository or a declared region, and its rows can
 * be.
 *
 * @param root the root class of the table
 */
export function isCachedTable(root: Meta, classes: Pick<Classes, 'get'>, repositories: RepositoryLookup): boolean {
  const isWanted = classesOfTable(root, classes).some(
    (meta) => isRegionDeclared(meta) || hasCachedRepository(meta, repositories),
  );
  return isWanted && (uncacheableReason(root) ?? unnameableReason(root)) === undefined;
}

/** The root class of each cached table: what the triggers watch, the relay delivers, and `doctor` looks at. */
export function cachedTables(classes: Classes, repositories: RepositoryLookup): Meta[] {
  return ([...classes] as Meta[]).filter(
    (meta) => meta.root === meta && isTable(meta) && isCachedTable(meta, classes, repositories),
  );
}

/** With a cached repository for all entities, what the library or MikroORM adds to them would be cached too. */
function isTable(meta: Meta): boolean {
  return !!meta.tableName && !meta.embeddable && !meta.view && !meta.pivotTable && meta.tableName !== CHANGE_LOG_TABLE;
}

function hasCachedRepository(meta: Meta, repositories: RepositoryLookup): boolean {
  const repository = repositories.getRepositoryClass(meta.repository) as { prototype: EntityRepository<object> };
  return hasTrait(repository.prototype, CACHED);
}
