import { Utils } from '@mikro-orm/core';
import { inspect } from 'node:util';
import { metaOf, primaryKeyValues } from '../orm/entities.js';
import type { Meta, Prop } from '../orm/metadata.js';

const LONGEST = 200;

/** A lookup as text for error messages: bounded, entities by their key, values of `hidden` properties redacted. */
export function printLookup(meta: Meta, where: unknown): string {
  return shorten(Utils.isPlainObject(where) ? printObject(meta.properties, where) : printValue(where));
}

function printObject(props: Record<string, Prop>, values: Record<string, unknown>): string {
  const items = Object.entries(values).map(([name, value]) => {
    const prop = Object.hasOwn(props, name) ? props[name] : undefined;
    return `${name}: ${printProperty(prop, value)}`;
  });
  return items.length === 0 ? '{}' : `{ ${items.join(', ')} }`;
}

function printProperty(prop: Prop | undefined, value: unknown): string {
  if (prop?.hidden) return '[hidden]';
  if (prop?.embeddedProps && value !== null && typeof value === 'object') {
    return printObject(prop.embeddedProps, { ...value });
  }
  return printValue(value);
}

function printValue(value: unknown): string {
  if (value !== null && typeof value === 'object' && Utils.isEntity<object>(value)) {
    return `${metaOf(value).className}(${primaryKeyValues(value)?.join(', ') ?? 'new'})`;
  }
  return inspect(value, { depth: 2, breakLength: Infinity, maxStringLength: 100, maxArrayLength: 10 });
}

function shorten(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
