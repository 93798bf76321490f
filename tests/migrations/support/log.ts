import type { Client } from 'pg';
import { changeLogUp, triggersUp, type TriggerOptions } from '../../../src/migrations.js';
import { createDatabase, rawClient } from '../../harness/servers.js';

/** What the triggers have logged since the last call, oldest first: `schema.table` and the keys, or `any`. */
export async function takeLog(client: Client, logSchema = 'public'): Promise<[table: string, keys: unknown][]> {
  const { rows } = await client.query(
    `with gone as (delete from "${logSchema}".plus_change_log returning *)
     select table_schema || '.' || table_name as table, keys from gone order by id`,
  );
  return rows.map(({ table, keys }) => [table, keys ?? 'any']);
}

/** A database with a change log, and `watch()` to let its tables write to it. */
export async function loggedDatabase(): Promise<{
  url: string;
  client: Client;
  watch: (options: TriggerOptions) => Promise<void>;
}> {
  const url = await createDatabase('log');
  const client = await rawClient(url);
  for (const sql of changeLogUp()) await client.query(sql);
  const watch = async (options: TriggerOptions): Promise<void> => {
    for (const sql of triggersUp(options)) await client.query(sql);
  };
  return { url, client, watch };
}
