import type { AbstractSqlDriver } from '@mikro-orm/postgresql';
import { MissingUniqueConstraintError } from '../errors.js';
import { canonical, sequence, sequenceOf } from '../orm/canonical.js';
import type { Meta } from '../orm/metadata.js';
import type { Lookup } from './lookup.js';
import { uniqueKeysOf, type UniqueKey } from './unique-keys.js';

/** How lookups of one shape are served. */
export interface LookupPlan {
  /** The unique key that a creation relies on; `undefined` when none serves. */
  readonly key: UniqueKey | undefined;
  /** What all {@link keyOrder} texts of the plan begin with. */
  readonly orderPrefix: string;
}

const plans = new WeakMap<Meta, Map<string, LookupPlan>>();

/** The plan for a lookup, found from metadata once per entity and shape. */
export function planFor(driver: AbstractSqlDriver, lookup: Lookup): LookupPlan {
  return (lookup.plan ??= findPlan(driver, lookup));
}

function findPlan(driver: AbstractSqlDriver, lookup: Lookup): LookupPlan {
  let ofEntity = plans.get(lookup.meta);
  if (!ofEntity) plans.set(lookup.meta, (ofEntity = new Map()));
  let plan = ofEntity.get(lookup.shape);
  if (!plan) {
    const key = chooseKey(driver, lookup);
    ofEntity.set(lookup.shape, (plan = { key, orderPrefix: sequence(key?.columns ?? []) }));
  }
  return plan;
}

/**
 * Of the unique keys whose every column the lookup gives: whole-table keys before partial ones, then the one with the
 * most columns. A null only counts where nulls are not distinct.
 */
function chooseKey(driver: AbstractSqlDriver, lookup: Lookup): UniqueKey | undefined {
  const given = new Map(lookup.parts.map(({ prop, value }) => [prop.name, value]));
  const usable = uniqueKeysOf(driver, lookup.meta).filter((key) =>
    key.props.every(({ name }) => given.has(name) && (key.nullsNotDistinct || given.get(name) !== null)),
  );
  usable.sort(
    (left, right) =>
      Number(left.predicate !== undefined) - Number(right.predicate !== undefined) ||
      right.props.length - left.props.length,
  );
  return usable[0];
}

/**
 * The text by which every process orders the rows of a batch before it writes them: that of their unique key, whatever
 * else the lookups name. Batches then wait for each other in one order, and can't deadlock.
 */
export function keyOrder(driver: AbstractSqlDriver, lookup: Lookup): string {
  const { key, orderPrefix } = planFor(driver, lookup);
  if (!key) return sequence([lookup.shape, lookup.text]);
  const values = sequenceOf(key.props, ({ name }) =>
    canonical(lookup.parts.find(({ prop }) => prop.name === name)?.value),
  );
  return orderPrefix + values;
}

/** What to throw when a row must be created and no unique key would stop a second one. */
export function missingKeyError(driver: AbstractSqlDriver, lookup: Lookup): MissingUniqueConstraintError {
  const names = lookup.parts.map(({ prop }) => prop.name);
  const nulls = lookup.parts.filter(({ value }) => value === null).map(({ prop }) => prop.name);
  const declared = uniqueKeysOf(driver, lookup.meta).map((key) => `(${key.props.map(({ name }) => name).join(', ')})`);
  const why = nulls.length > 0 ? ` (a null in ${nulls.join(', ')} never conflicts unless nulls are not distinct)` : '';
  return new MissingUniqueConstraintError(
    `No unique constraint of ${lookup.meta.className} serves the lookup ${lookup.printed}${why}, so a race could create ` +
      `the row twice. Declared: ${declared.join(' ')}. Add @Unique({ properties: [${names.map((name) => `'${name}'`).join(', ')}] }), ` +
      'or pass options.serialize: true to take an advisory lock instead.',
    { entity: lookup.meta.className, lookup: lookup.printed },
  );
}
