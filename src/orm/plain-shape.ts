import { ReferenceKind } from '@mikro-orm/core';
import type { Meta, Prop } from './metadata.js';

/*
 * MikroORM's factory makes an entity of any row. What it asks for each of them (inheritance, relations, custom types,
 * constructors, listeners) is the same for all rows of a batch, and nothing of it applies to many entities.
 */

/** Property-keyed values of one row in database form. */
export type Data = Record<string, unknown>;

const plainTypes = new Set(['string', 'number', 'boolean', 'Date']);
/** Declared types whose values MikroORM's comparator neither copies nor looks into. */
const primitive = new Set(['string', 'number', 'boolean', 'bigint']);

/** Whether an entity's values are those of its row as they are: nothing but columns of simple types, and one class. */
function isPlain(meta: Meta): boolean {
  const isOrdinary = meta.root === meta && !meta.inheritanceType && !meta.serializedPrimaryKey && !meta.virtual;
  return isOrdinary && meta.simplePK && !meta.forceConstructor && meta.props.every(isPlainProp);
}

function isPlainProp(prop: Prop): boolean {
  const { kind, customType, runtimeType, fieldNames, persist } = prop;
  if (kind !== ReferenceKind.SCALAR || customType || !plainTypes.has(runtimeType)) return false;
  if (prop.lazy || prop.formula || prop.generated || prop.version || prop.embedded || prop.ref || prop.array)
    return false;
  // compared by identity, which a snapshot of its own could never have
  if (runtimeType === 'Date' && primitive.has(prop.type.toLowerCase())) return false;
  if (prop.getter || prop.setter || prop.accessor || prop.hydrate === false) return false;
  return fieldNames?.length === 1 && persist !== false;
}

/** The properties for which MikroORM has setters on the prototype, which define them on an entity when they are called first. */
function trackedNames(meta: Meta): string[] {
  const isTracked = ({ name, primary }: Prop): boolean =>
    !primary && Object.getOwnPropertyDescriptor(meta.prototype, name)?.set !== undefined;
  return meta.hydrateProps.filter(isTracked).map(({ name }) => name);
}

/**
 * Makes objects that take values as their own, which the setters on the entity's prototype wouldn't let them: it stays
 * behind another one until they are there. An entity of such values is what `em.create()` makes of a class with fields.
 */
function blankOf(meta: Meta, names: readonly string[]): new () => object {
  const writable: PropertyDescriptor = { value: undefined, writable: true, configurable: true };
  function Blank(): void {
    // its values come later
  }
  Blank.prototype = Object.create(meta.prototype, Object.fromEntries(names.map((name) => [name, writable]))) as object;
  return Blank as unknown as new () => object;
}

/** Whether a class is nothing but its name, as those are that `defineEntity()` makes. */
function isEmpty(ofEntity: object): boolean {
  return /^class\s*[\w$]*\s*\{\s*\}$/.test(Function.prototype.toString.call(ofEntity));
}

/** What is the same for all rows of a plain entity. */
export interface Shape {
  readonly key: string;
  readonly names: readonly string[];
  /** The same names, shared by all entities that are loaded with all of them. */
  readonly allNames: Set<string>;
  readonly compared: readonly string[];
  readonly Blank: new () => object;
  /** Whether a new entity is a blank one, because its class has nothing to run. */
  readonly isEmptyClass: boolean;
}

const shapes = new WeakMap<Meta, Shape | false>();

/** `false` for entities that only MikroORM's factory can make. */
export function shapeOf(meta: Meta): Shape | false {
  let shape = shapes.get(meta);
  if (shape === undefined) {
    shape = isPlain(meta) && newShape(meta);
    shapes.set(meta, shape);
  }
  return shape;
}

function newShape(meta: Meta): Shape {
  const names = meta.props.map(({ name }) => name);
  const allNames = new Set(names);
  // it stays as it is: nothing that MikroORM may add to the loaded properties isn't among all of them
  allNames.add = () => allNames;
  return {
    key: meta.primaryKeys[0]!,
    names,
    allNames,
    compared: meta.comparableProps.map(({ name }) => name),
    Blank: blankOf(meta, trackedNames(meta)),
    isEmptyClass: isEmpty(meta.class),
  };
}
