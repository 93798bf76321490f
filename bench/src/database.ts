import { Redis } from 'ioredis-6';
import pg from 'pg';

/** Addresses of the servers that are measured. */
export interface Servers {
  readonly databaseUrl: string;
  readonly redisUrl: string;
}

/** Makes the table anew, with rows `k1` to `k<rows>`, and empties Redis. */
export async function seed(servers: Servers, rows: number): Promise<void> {
  await onDatabase(servers, [
    'drop table if exists item',
    `create table item (
       id serial primary key, name varchar(255) not null unique, weight int, note text,
       active boolean not null default true, created_at timestamptz not null default now()
     )`,
  ]);
  await grow(servers, 1, rows);
  await emptyRedis(servers);
}

/** Adds the rows `k<first>` to `k<last>`. */
export async function grow(servers: Servers, first: number, last: number): Promise<void> {
  await onDatabase(servers, [
    `insert into item (name, weight, note)
     select 'k' || i, i, 'a note of some length, as rows have them' from generate_series(${first}, ${last}) as i`,
    'vacuum analyze item',
  ]);
}

/** Makes the table `item_<columns>`, of id, name and texts, with rows `k1` to `k<rows>`. */
export async function seedWide(servers: Servers, columns: number, rows: number): Promise<void> {
  const texts = Array.from({ length: columns - 2 }, (_value, index) => `c${index + 1}`);
  const list = (of: (column: string) => string): string => texts.map((column) => `, ${of(column)}`).join('');
  await onDatabase(servers, [
    `drop table if exists item_${columns}`,
    `create table item_${columns} (id serial primary key, name varchar(255) not null unique${list((c) => `${c} text`)})`,
    `insert into item_${columns} (name${list((c) => c)})
     select 'k' || i${list(() => `'value ' || i`)} from generate_series(1, ${rows}) as i`,
    `vacuum analyze item_${columns}`,
  ]);
}

export async function serverVersions(servers: Servers): Promise<{ postgres: string; redis: string }> {
  const client = new pg.Client(servers.databaseUrl);
  await client.connect();
  const { rows } = await client.query<{ server_version: string }>('show server_version');
  await client.end();
  const redis = new Redis(servers.redisUrl);
  const info = await redis.info('server');
  await redis.quit();
  return { postgres: rows[0]!.server_version, redis: /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown' };
}

export async function emptyRedis({ redisUrl }: Servers): Promise<void> {
  const redis = new Redis(redisUrl);
  await redis.flushall();
  await redis.quit();
}

async function onDatabase({ databaseUrl }: Servers, statements: readonly string[]): Promise<void> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
