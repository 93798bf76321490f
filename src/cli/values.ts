import type { Platform } from '@mikro-orm/core';
import { isInlineEmbedded, isToMany, isToOne, type Meta, type Prop } from '../orm/metadata.js';
import { UsageError } from './arguments.js';
import { suggestion } from './names.js';

/**
 * Turns `property=value` arguments into a lookup; each value is read as its property's type.
 *
 * @throws {UsageError} for an unknown property, or a value that isn't of its type
 */
export function parsePairs(meta: Meta, pairs: readonly string[], platform: Platform): Record<string, unknown> {
  const where: Record<string, unknown> = {};
  for (const pair of pairs) {
    const [, path, text] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (path === undefined || text === undefined) {
      throw new UsageError(`'${pair}' is not of the form property=value.`);
    }
    setPath(where, path, parseValue(findProperty(meta, path), path, text, platform));
  }
  return where;
}

function findProperty(meta: Meta, path: string): Prop {
  let props = meta.properties as Record<string, Prop>;
  const [head, ...rest] = path.split('.');
  let prop = requireProp(props, head!, path, meta);
  for (const name of rest) {
    props = isInlineEmbedded(prop) ? prop.embeddedProps : {};
    prop = requireProp(props, name, path, meta);
  }
  return prop;
}

function requireProp(props: Record<string, Prop>, name: string, path: string, meta: Meta): Prop {
  if (Object.hasOwn(props, name)) return props[name]!;
  // the parts of embeddables are flattened under names of their own, which nobody types
  const known = Object.values(props).filter((prop) => !isToMany(prop) && !prop.name.includes('~'));
  const names = known.flatMap((prop) => (prop.embedded && props === meta.properties ? [] : [keyOf(props, prop)]));
  throw new UsageError(`${meta.className} has no property '${path}'. ${suggestion(name, names)}`);
}

function keyOf(props: Record<string, Prop>, prop: Prop): string {
  return Object.keys(props).find((key) => props[key] === prop) ?? prop.name;
}

function setPath(where: Record<string, unknown>, path: string, value: unknown): void {
  const keys = path.split('.');
  const last = keys.pop()!;
  let target = where;
  for (const key of keys) target = (target[key] ??= {}) as Record<string, unknown>;
  if (Object.hasOwn(target, last)) throw new UsageError(`'${path}' is given twice.`);
  target[last] = value;
}

function parseValue(prop: Prop, path: string, text: string, platform: Platform): unknown {
  if (isToOne(prop)) return parseKey(prop, path, text, platform);
  const kind = prop.runtimeType ?? prop.type;
  if (text === 'null' && prop.nullable && kind !== 'string') return null;
  const refuse = (expected: string): never => {
    throw new UsageError(`'${text}' is no value for '${path}', which takes ${expected}.`);
  };
  switch (kind) {
    case 'number':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : refuse('a number');
    case 'bigint':
      return /^-?\d+$/.test(text) ? toRuntime(prop, text, platform) : refuse('a whole number');
    case 'boolean':
      return ['true', 'false'].includes(text) ? text === 'true' : refuse('true or false');
    case 'Date': {
      const date = new Date(text);
      return Number.isNaN(date.getTime()) ? refuse('a date, e.g. 2026-01-31T12:00:00Z') : date;
    }
    case 'string':
      return checkEnum(prop, text, refuse);
    default:
      // a type of the application's: what the database holds is what it can be made from
      return prop.customType ? toRuntime(prop, text, platform) : text;
  }
}

function checkEnum(prop: Prop, text: string, refuse: (expected: string) => never): string {
  const items = prop.enum && !prop.array ? (prop.items ?? []).map(String) : [];
  return items.length === 0 || items.includes(text) ? text : refuse(`one of ${items.join(', ')}`);
}

function toRuntime(prop: Prop, text: string, platform: Platform): unknown {
  return prop.customType ? prop.customType.convertToJSValue(text, platform) : text;
}

/** The primary key of a relation's target; the parts of a composite one with commas between them. */
function parseKey(prop: Prop, path: string, text: string, platform: Platform): unknown {
  if (text === 'null' && prop.nullable) return null;
  const keys: Prop[] = prop.targetMeta!.getPrimaryProps();
  const parts = keys.length === 1 ? [text] : text.split(',');
  if (parts.length !== keys.length) {
    const names = keys.map(({ name }) => name).join(',');
    throw new UsageError(`'${text}' is no value for '${path}', which takes the key ${names} with commas.`);
  }
  const values = keys.map((key, index) => parseValue(key, path, parts[index]!, platform));
  return values.length === 1 ? values[0] : values;
}
