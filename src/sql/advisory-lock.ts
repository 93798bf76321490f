import { createHash } from 'node:crypto';
import type { Lookup } from '../natural-keys/lookup.js';
import { sequence } from '../orm/canonical.js';
import type { Sql } from '../orm/statement.js';
import { tableOf, type Target } from './parts.js';

/** Takes the advisory lock that stands for a lookup, until the transaction ends. */
export function advisoryLock(target: Target, lookup: Lookup): Sql {
  const name = sequence([tableOf(target), lookup.text]);
  const hash = createHash('sha256').update('mikro-orm-plus:').update(name).digest().readBigInt64BE(0);
  return { sql: 'select pg_advisory_xact_lock(?::bigint)', params: [hash.toString()] };
}
