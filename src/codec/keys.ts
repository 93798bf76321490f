import { LRUCache } from 'lru-cache';
import { hash } from 'node:crypto';
import { canonical, sequence } from '../orm/canonical.js';
import type { Meta } from '../orm/metadata.js';
import type { Lookup } from '../natural-keys/lookup.js';

/** The name of an entity's region: prefix and table, so that two classes of one name don't meet. */
export function regionName(prefix: string, meta: Meta): string {
  const { schema, tableName } = meta.root;
  return `${prefix}:${encodeURIComponent(schema ?? '')}.${encodeURIComponent(tableName)}`;
}

/** The key of a row's entry. */
export function objectKey(region: string, schema: string | undefined, primaryKey: string): string {
  return `${region}:o:${digest([schema ?? '', primaryKey])}`;
}

/** The key of a lookup's entry, which holds a primary key. */
export function lookupKey(region: string, schema: string | undefined, lookup: Lookup): string {
  return `${region}:l:${digest([schema ?? '', lookup.meta.className, lookup.shape, lookup.values])}`;
}

/** The prefix of a database's keys when none is configured. */
export function databasePrefix(host: string | undefined, port: number | undefined, name: string | undefined): string {
  // the ways to say "this machine" must not make two caches of one database
  const machine = !host || ['127.0.0.1', '::1', '[::1]'].includes(host) ? 'localhost' : host.toLowerCase();
  return `plus:${digest([machine, String(port ?? ''), name ?? '']).slice(0, 12)}`;
}

/**
 * A short name for the columns that make up a cached row. It is kept in the value and not in the key: two versions of
 * an application then miss each other's rows, but remove the same entry when they write.
 */
export function fingerprint(columns: readonly (readonly unknown[])[]): string {
  return digest(columns.map((column) => canonical([...column]))).slice(0, 12);
}

/** Digests of short texts that were asked for lately: the keys that are read most are read again and again. */
const digests = new LRUCache<string, string>({ max: 10_000 });
const LONGEST_REMEMBERED = 200;

/** At least 128 bits of a hash over an injective encoding. */
function digest(texts: readonly string[]): string {
  const text = sequence(texts);
  const known = text.length <= LONGEST_REMEMBERED ? digests.get(text) : undefined;
  if (known !== undefined) return known;
  const made = hash('sha256', text, 'base64url').slice(0, 22);
  if (text.length <= LONGEST_REMEMBERED) digests.set(text, made);
  return made;
}
