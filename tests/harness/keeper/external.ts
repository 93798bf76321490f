import { Redis } from 'ioredis';
import { Client } from 'pg';
import { databasePrefix, redisPrefix } from '../names.js';

/** Drops the databases that a run left on a server which it did not start itself. */
export async function cleanDatabases(url: string, runId: string): Promise<void> {
  const client = new Client(url);
  await client.connect();
  try {
    const { rows } = await client.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [databasePrefix(runId)],
    );
    for (const { datname } of rows) {
      await client.query(`drop database if exists ${client.escapeIdentifier(datname)} with (force)`);
    }
  } finally {
    await client.end();
  }
}

/** Removes the keys that a run left on a server which it did not start itself. */
export async function cleanRedis(url: string, runId: string): Promise<void> {
  const client = new Redis(url);
  try {
    for await (const keys of client.scanStream({ match: `${redisPrefix(runId)}*`, count: 1_000 })) {
      if (keys.length > 0) {
        await client.unlink(...keys);
      }
    }
  } finally {
    client.disconnect();
  }
}
