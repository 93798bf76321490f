import {
  ReferenceKind,
  Reference,
  RawQueryFragment,
  Utils,
  helper,
  isRaw,
  t,
  types,
  type Platform,
} from '@mikro-orm/core';
import { LookupError } from '../errors.js';
import { isInlineEmbedded, isToMany, isToOne, type Meta, type Prop } from '../orm/metadata.js';
import { canonical, isSame, sequence, sequenceOf } from '../orm/canonical.js';
import type { LookupPlan } from './plan.js';
import { printLookup } from './print.js';

/** One part of a lookup: a property with columns of its own, and the value to compare with, in database form. */
export interface LookupPart {
  readonly prop: Prop;
  readonly value: unknown;
}

/** What lookups of one shape have in common. */
interface Shape {
  readonly parts: readonly { readonly prop: Prop; readonly isNull: boolean }[];
  readonly text: string;
}

const lastShapes = new WeakMap<Meta, Shape>();

/** The same text for all lookups of a batch, which mostly name the same properties: each one of its own would be hashed. */
function shapeOf(meta: Meta, parts: readonly LookupPart[]): string {
  const last = lastShapes.get(meta);
  if (last && isOfShape(last, parts)) return last.text;
  const text = sequenceOf(parts, ({ prop, value }) => (value === null ? `${prop.name}?` : prop.name));
  lastShapes.set(meta, { parts: parts.map(({ prop, value }) => ({ prop, isNull: value === null })), text });
  return text;
}

function isOfShape(shape: Shape, parts: readonly LookupPart[]): boolean {
  if (shape.parts.length !== parts.length) return false;
  for (const [index, { prop, isNull }] of shape.parts.entries()) {
    const part = parts[index]!;
    if (part.prop !== prop || (part.value === null) !== isNull) return false;
  }
  return true;
}

/** A `where` that was checked and taken apart. Texts are made when somebody asks for them. */
export class Lookup {
  readonly meta: Meta;
  /** What the caller gave. */
  readonly where: Readonly<Record<string, unknown>>;
  /** Sorted by property name; inline embeddables are taken apart into their columns. */
  readonly parts: readonly LookupPart[];
  /** Names the set of properties, and which of them are null: lookups of one shape share a plan. */
  readonly shape: string;
  /** Its plan, once it was asked for. */
  plan: LookupPlan | undefined;
  #values: string | undefined;

  constructor(meta: Meta, where: Readonly<Record<string, unknown>>, parts: readonly LookupPart[]) {
    this.meta = meta;
    this.where = where;
    this.parts = parts;
    this.shape = shapeOf(meta, parts);
  }

  /** Injective text of the values, in the order of the parts. */
  get values(): string {
    return (this.#values ??= sequenceOf(this.parts, ({ value }) => canonical(value)));
  }

  /** Injective text of shape and values. */
  get text(): string {
    return sequence(this.parts.flatMap(({ prop, value }) => [prop.name, canonical(value)]));
  }

  /** Printable, with hidden values redacted. */
  get printed(): string {
    return printLookup(this.meta, this.where);
  }
}

/**
 * Checks a `where` and takes it apart. Only plain equality passes: an operator object, a fragment of SQL, `undefined`,
 * a function or an unknown property is a {@link LookupError}, so that a request body can't widen a lookup.
 */
export function parseLookup(meta: Meta, where: unknown, platform: Platform): Lookup {
  const parser = new LookupParser(meta, where, platform);
  const parts = parser.parse();
  if (parts.length > 1) parts.sort((left, right) => (left.prop.name < right.prop.name ? -1 : 1));
  return new Lookup(meta, where as Record<string, unknown>, parts);
}

type TypeClass = abstract new (...args: never[]) => unknown;
const structured: TypeClass[] = [types.json, types.array, types.enumArray].filter((type) => type !== undefined);
const scalarTypes = new Set<unknown>(Object.values(t).filter((type) => !structured.includes(type as TypeClass)));

class LookupParser {
  readonly #meta: Meta;
  readonly #where: unknown;
  readonly #platform: Platform;

  constructor(meta: Meta, where: unknown, platform: Platform) {
    this.#meta = meta;
    this.#where = where;
    this.#platform = platform;
  }

  parse(): LookupPart[] {
    if (!Utils.isPlainObject(this.#where)) {
      throw this.#error('is not a plain object', 'pass an object of properties and values, e.g. { name: "x" }');
    }
    if (Object.getOwnPropertySymbols(this.#where).length > 0) {
      throw this.#error('has a symbol key (a fragment of SQL)', 'use options.lookup for anything but plain equality');
    }
    const where = this.#where as Record<string, unknown>;
    return Object.keys(where).flatMap((name) => this.#property(name, where[name]));
  }

  #property(name: string, value: unknown): LookupPart | LookupPart[] {
    const prop = Object.hasOwn(this.#meta.properties, name)
      ? (this.#meta.properties as Record<string, Prop>)[name]
      : undefined;
    if (!prop) {
      throw this.#error(`names '${name}', which is no property of ${this.#meta.className}`, 'check its spelling');
    }
    if (isToMany(prop) || (prop.kind === ReferenceKind.ONE_TO_ONE && !isToOne(prop))) {
      throw this.#error(`names the collection or inverse side '${name}'`, 'look the row up by its own columns');
    }
    if (prop.persist === false || prop.formula) {
      throw this.#error(`names '${name}', which is not persisted`, 'look the row up by its own columns');
    }
    this.#refuseNonData(name, value);
    if (isInlineEmbedded(prop)) return this.#embedded(prop, value);
    if (prop.kind === ReferenceKind.EMBEDDED) {
      throw this.#error(`names '${name}', an embeddable kept as JSON`, 'look the row up by columns');
    }
    return { prop, value: isToOne(prop) ? this.#relation(prop, value) : this.#scalar(prop, value) };
  }

  #refuseNonData(name: string, value: unknown): void {
    const kind = typeof value;
    if (kind === 'string') {
      if (!(value as string).includes('\0')) return;
      throw this.#error(`has a NUL character in '${name}'`, 'PostgreSQL text cannot hold it');
    }
    if (value === undefined) throw this.#error(`has undefined for '${name}'`, 'leave the property out, or pass null');
    if (kind === 'function' || kind === 'symbol') throw this.#error(`has a ${kind} for '${name}'`, 'pass a value');
    if (value instanceof RegExp) throw this.#error(`has a RegExp for '${name}'`, 'use options.lookup for patterns');
    if (value instanceof RawQueryFragment || isRaw(value)) {
      throw this.#error(`has a fragment of SQL for '${name}'`, 'use options.lookup for anything but plain equality');
    }
    if (typeof value === 'number' && !Number.isFinite(value)) {
      throw this.#error(`has ${value} for '${name}'`, 'pass a number');
    }
    if (value instanceof Date && Number.isNaN(value.getTime())) {
      throw this.#error(`has an invalid Date for '${name}'`, 'pass a valid date');
    }
    if (Utils.isPlainObject(value) && Object.keys(value).some((key) => key.startsWith('$'))) {
      throw this.#error(
        `has an operator object for '${name}'`,
        'only plain equality is allowed; use options.lookup for more',
      );
    }
  }

  #embedded(prop: Prop, value: unknown): LookupPart[] {
    if (value !== null && typeof value !== 'object') {
      throw this.#error(`has a ${typeof value} for the embeddable '${prop.name}'`, 'pass an object of its properties');
    }
    const children = Object.entries(prop.embeddedProps);
    if (value !== null && Utils.isPlainObject(value)) {
      const unknown = Object.keys(value).find((key) => !Object.hasOwn(prop.embeddedProps, key));
      if (unknown !== undefined) {
        throw this.#error(
          `names '${prop.name}.${unknown}', which is no property of the embeddable`,
          'check its spelling',
        );
      }
    }
    // a plain object names the properties to compare; an instance (or null) is compared as a whole
    const partial = value !== null && Utils.isPlainObject(value);
    return children
      .filter(([key, child]) => child.persist !== false && (!partial || Object.hasOwn(value as object, key)))
      .flatMap(([key, child]) => {
        const item: unknown = value === null ? null : (value as Record<string, unknown>)[key];
        const given = partial ? item : (item ?? null);
        this.#refuseNonData(`${prop.name}.${key}`, given);
        if (isInlineEmbedded(child)) return this.#embedded(child, given);
        if (child.kind === ReferenceKind.EMBEDDED) {
          throw this.#error(`names '${prop.name}.${key}', an embeddable kept as JSON`, 'look the row up by columns');
        }
        return [{ prop: child, value: isToOne(child) ? this.#relation(child, given) : this.#scalar(child, given) }];
      });
  }

  #scalar(prop: Prop, value: unknown): unknown {
    if (value === null) return null;
    const type = prop.customType;
    const builtin = !type || scalarTypes.has(type.constructor);
    if (builtin && typeof value === 'object' && !(value instanceof Date) && !ArrayBuffer.isView(value)) {
      throw this.#error(`has an object or array for '${prop.name}'`, 'only plain equality with one value is allowed');
    }
    const converted: unknown = type ? this.#convert(type, prop, value) : value;
    return ArrayBuffer.isView(converted) && !Buffer.isBuffer(converted)
      ? Buffer.from(converted.buffer, converted.byteOffset, converted.byteLength)
      : (converted ?? null);
  }

  #convert(type: NonNullable<Prop['customType']>, prop: Prop, value: unknown): unknown {
    try {
      return type.convertToDatabaseValue(value, this.#platform, { fromQuery: true, key: prop.name, mode: 'query' });
    } catch (cause) {
      throw this.#error(
        `has a ${typeof value} for '${prop.name}' that its type can't take`,
        'pass a value of its type',
        cause,
      );
    }
  }

  #relation(prop: Prop, given: unknown): unknown {
    if (given === null) return null;
    if (prop.polymorphic) {
      throw this.#error(`names the polymorphic relation '${prop.name}'`, 'look the row up by its other columns');
    }
    const target = prop.targetMeta!;
    const value: unknown = Reference.unwrapReference(given as object);
    if (Utils.isEntity(value)) {
      const keys = helper(value).getPrimaryKeys(true);
      if (!keys || keys.some((key) => key == null)) {
        throw this.#error(`has a new ${target.className} without primary key for '${prop.name}'`, 'flush it first');
      }
      return keys.length === 1 ? keys[0] : keys;
    }
    const values = this.#keyValues(prop, target, value);
    const columns = values.flatMap((item, index) => {
      const pk = target.getPrimaryProps()[index]!;
      return isToOne(pk) ? this.#relation(pk, item) : this.#scalar(pk, item);
    });
    if (columns.some((column) => column == null)) {
      throw this.#error(
        `has an incomplete primary key for '${prop.name}'`,
        `name every key property of ${target.className}`,
      );
    }
    return columns.length === 1 ? columns[0] : columns;
  }

  /** The primary key of a relation's target given as scalar, as array (composite) or as object of key properties. */
  #keyValues(prop: Prop, target: Meta, value: unknown): unknown[] {
    const keys = target.primaryKeys;
    if (Utils.isPlainObject(value)) {
      const names = Object.keys(value);
      if (names.length === keys.length && keys.every((key) => Object.hasOwn(value, key))) {
        return keys.map((key) => (value as Record<string, unknown>)[key]);
      }
    } else if (Array.isArray(value)) {
      if (value.length === keys.length) return value as unknown[];
    } else if (keys.length === 1) {
      return [value];
    }
    throw this.#error(
      `has no primary key of ${target.className} for '${prop.name}'`,
      `pass an entity or its ${keys.join(', ')}`,
    );
  }

  #error(problem: string, remedy: string, cause?: unknown): LookupError {
    const lookup = printLookup(this.#meta, this.#where);
    return new LookupError(`Lookup of ${this.#meta.className} ${lookup} ${problem}: ${remedy}.`, {
      entity: this.#meta.className,
      lookup,
      cause,
    });
  }
}

/** Whether a row has the values of a lookup (in database form), by the same measure as {@link keyText}. */
export function isNamedBy(lookup: Lookup, valueOf: (prop: Prop) => unknown): boolean {
  return lookup.parts.every(({ prop, value }) => isSame(valueOf(prop), value));
}

/** The values of a lookup as text, or those of a row's data (in database form) for the same properties. */
export function keyText(lookup: Lookup, data?: Readonly<Record<string, unknown>>): string {
  return data ? sequenceOf(lookup.parts, ({ prop }) => canonical(data[prop.name])) : lookup.values;
}
