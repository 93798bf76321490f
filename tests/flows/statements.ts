import type { EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverVersion } from '../../src/orm/server-version.js';

/** What each statement is: `select`, `insert`, `upsert`, `begin`, `savepoint`, … */
export function kinds(statements: readonly string[]): string[] {
  return statements.map((statement) => {
    if (!statement.startsWith('with ')) return /^\w+/.exec(statement)?.[0] ?? statement;
    return statement.includes(' as (update ') ? 'upsert' : 'insert';
  });
}

/** Whether the server gives the row of a taken key with the insert that was refused; the library asks it once. */
export async function givesTakenRows(em: EntityManager): Promise<boolean> {
  for (;;) {
    const version = serverVersion(em);
    if (version !== undefined) return version >= 190_000;
    await sleep(10);
  }
}
