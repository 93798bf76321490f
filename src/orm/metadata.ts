import { ReferenceKind, type EntityMetadata, type EntityProperty } from '@mikro-orm/core';
import { LookupError } from '../errors.js';

/** Metadata of some entity; the library works on metadata, not on entity types. */
export type Meta = EntityMetadata;
export type Prop = EntityProperty;

/** The alias of the entity's table in every statement that this library writes. */
export const ALIAS = 't0';

/** Quotes one identifier as a whole, and hides `?` from MikroORM's own placeholder search. */
export function quote(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`.replaceAll('?', '\\?');
}

export function isToOne(prop: Prop): boolean {
  return (
    prop.kind === ReferenceKind.MANY_TO_ONE ||
    (prop.kind === ReferenceKind.ONE_TO_ONE && (prop.owner || !prop.mappedBy))
  );
}

export function isToMany(prop: Prop): boolean {
  return prop.kind === ReferenceKind.ONE_TO_MANY || prop.kind === ReferenceKind.MANY_TO_MANY;
}

export function isInlineEmbedded(prop: Prop): boolean {
  return prop.kind === ReferenceKind.EMBEDDED && !prop.object && !prop.array;
}

/** Whether `prop` is the side of a 1:1 relation that has no column: its value is read from the other table. */
export function isInverse(prop: Prop): boolean {
  return prop.kind === ReferenceKind.ONE_TO_ONE && !isToOne(prop);
}

/** True for properties that live inside the JSON column of an object embeddable, and so have no column of their own. */
function isInsideJson(prop: Prop, meta: Meta): boolean {
  return !!prop.embedded && !!meta.properties[prop.embedded[0]]?.object;
}

/** Whether `prop` is read by a plain load of the row: it has columns (or a formula) and isn't lazy. */
function isLoaded(prop: Prop, meta: Meta): boolean {
  return (
    !!prop.fieldNames &&
    !prop.lazy &&
    (prop.persist !== false || !!prop.formula) &&
    !isToMany(prop) &&
    !isInsideJson(prop, meta) &&
    !isInlineEmbedded(prop)
  );
}

/**
 * The properties whose columns make up a fully loaded row. Single-table inheritance reads the root's, so that a row
 * looks the same whichever class of the table it was asked through.
 */
export function loadedProps(meta: Meta): Prop[] {
  const root = meta.root;
  return root.props.filter((prop) => isLoaded(prop, root));
}

/** Whether rows of this entity are spread over several tables, which no single insert can serve. */
export function isTablePerType(meta: Meta): boolean {
  return meta.root.inheritanceType === 'tpt';
}

/**
 * Why rows of this entity can't be rebuilt from their own columns alone, or `undefined` when they can. Such entities
 * are never cached.
 */
export function uncacheableReason(meta: Meta): string | undefined {
  if (meta.virtual) return 'it is a virtual entity';
  if (isTablePerType(meta)) return 'its rows are spread over several tables (table-per-type inheritance)';
  const inverse = meta.root.props.find(isInverse);
  return inverse && `'${inverse.name}' is the inverse side of a 1:1 relation, which takes a join to load`;
}

/**
 * The discriminator values of a class and its subclasses, when its table holds rows of other classes too; `undefined`
 * when no condition is needed.
 */
export function discriminatorValues(meta: Meta): (string | number)[] | undefined {
  const map = meta.root.discriminatorMap as Record<string, Meta['class']> | undefined;
  if (meta.root.inheritanceType !== 'sti' || !map || meta === meta.root) return undefined;
  const isKind = (cls: Meta['class']): boolean => cls === meta.class || cls.prototype instanceof meta.class;
  return Object.entries(map)
    .filter(([, cls]) => isKind(cls))
    .map(([value]) => value);
}

/** All classes whose rows live in the table of `root`. */
export function classesOfTable(root: Meta, all: { get(entity: Meta['class']): unknown }): Meta[] {
  const classes = Object.values((root.discriminatorMap ?? {}) as Record<string, Meta['class']>);
  return [...new Set([root, ...classes.map((cls) => all.get(cls) as Meta)])];
}

/**
 * A property that data for an entity names.
 *
 * @throws {LookupError} when there is none of that name
 */
export function requireProperty(meta: Meta, name: string, argument: string): Prop {
  const props = meta.properties as Record<string, Prop>;
  if (Object.hasOwn(props, name)) return props[name]!;
  throw new LookupError(
    `${argument} for a ${meta.className} name '${name}', which is no property of it: check its spelling, or override ` +
      'createEntity() to take extra keys out of the data.',
    { entity: meta.className },
  );
}
