import type { Client } from 'pg';
import { rawClient } from '../harness/servers.js';

/** A connection of another writer, for the whole test file: dropping the database at the end closes it. */
export async function rivalClient(url: string): Promise<Client> {
  const client = await rawClient(url);
  client.on('error', () => undefined);
  return client;
}

/** Waits until so many connections of the database wait for a lock. */
export async function untilBlocked(client: Client, count: number): Promise<void> {
  const waiting = `select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  for (let blocked = -1; blocked !== count;) {
    await client.query('select pg_stat_clear_snapshot()');
    const { rows } = await client.query<{ n: number }>(waiting);
    blocked = rows[0]!.n;
  }
}
