import type { Client } from 'pg';
import { changeLogUp, triggersUp } from '../../../../src/migrations.js';

/** Creates the change log. */
export async function createChangeLog(client: Client): Promise<void> {
  for (const statement of changeLogUp()) await client.query(statement);
}

/** Has a table log its changes. */
export async function watch(client: Client, table: string, ...primaryKey: string[]): Promise<void> {
  for (const statement of triggersUp({ table, primaryKey })) await client.query(statement);
}
