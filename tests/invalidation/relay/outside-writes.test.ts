import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { defineEntity, p } from '@mikro-orm/postgresql';
import { Redis } from 'ioredis';
import type { Client } from 'pg';
import { withPlusRepo } from '../../../src/index.js';
import { withChangeLog } from '../../../src/migrations.js';
import { connectTestOrm } from '../../harness/orm.js';
import { createDatabase, rawClient, testPrefix, testRedisUrl } from '../../harness/servers.js';
import { watch } from './support/change-log.js';
import { startService, until, type Service } from './support/services.js';

const row = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };
const Brand = withPlusRepo(defineEntity({ name: 'Brand', properties: row }));
const Post = withPlusRepo(
  defineEntity({
    name: 'Post',
    properties: { ...row, brand: () => p.manyToOne(Brand).nullable().deleteRule('cascade') },
  }),
);
const Note = withPlusRepo(
  defineEntity({
    name: 'Note',
    properties: { ...row, brand: () => p.manyToOne(Brand).nullable().deleteRule('set null') },
  }),
);
const Event = withPlusRepo(
  defineEntity({
    name: 'Event',
    uniques: [{ properties: ['name', 'day'] }],
    properties: {
      id: p.integer().primary(),
      day: p.integer().primary(),
      name: p.string(),
      weight: p.integer().default(0),
    },
  }),
);
const entities = [Brand, Post, Note];

/** A row that is in the cache, and what becomes of it. */
interface CachedRow {
  readonly id: number;
  /** Waits until its entry is gone from Redis; then what a lookup finds. */
  afterEviction(): Promise<{ created: boolean; weight: number; brand: unknown }>;
  /** Whether its entry is in Redis, and is what a lookup finds. */
  isCached(): Promise<boolean>;
}

describe('a cached row is gone from Redis, and the next lookup finds the new one, after', () => {
  let psql: Client;
  let service: Service;
  let redis: Redis;
  const prefix = `${testPrefix()}outside`;

  beforeAll(async () => {
    const url = await createDatabase('outside');
    // the tables, the log and the triggers as an application gets them
    await using setUp = await connectTestOrm(url, withChangeLog({ entities }));
    await setUp.orm.schema.create();
    psql = await rawClient(url);
    await psql.query(`create table event (id int, day int, name text, weight int, primary key (id, day), unique (name, day))
      partition by list (day)`);
    for (const day of [1, 2]) await psql.query(`create table event_${day} partition of event for values in (${day})`);
    await watch(psql, 'event', 'id', 'day');
    redis = new Redis(testRedisUrl());
    service = await startService(url, { entities: [...entities, Event], prefix });
  });

  afterAll(async () => {
    await service?.close();
    await psql?.end();
    redis?.disconnect();
  });

  const rowKeys = async (): Promise<Set<string>> => new Set(await redis.keys(`${prefix}:*:o:*`));

  async function find(entity: unknown, where: object, values: object = {}) {
    service.statements.take();
    const [found, created] = await service
      .em()
      .getRepository(entity as typeof Brand)
      .getOrCreate(where, values);
    const { brand } = found as { brand?: { id: number } | null };
    return { found, created, brand: brand && brand.id, statements: service.statements.take().length };
  }

  async function cached(entity: unknown, where: object, values: object): Promise<CachedRow> {
    const before = await rowKeys();
    const look = (with_ = {}) => find(entity, where, { weight: -1, ...with_ });
    const { found } = await look({ weight: 1, ...values });
    await until(async () => (await look()).statements === 0);
    const [key, ...more] = [...(await rowKeys())].filter((each) => !before.has(each));
    expect([key, more]).toEqual([expect.any(String), []]);
    const isThere = async (): Promise<boolean> => (await redis.exists(key!)) === 1;
    return {
      id: found.id,
      async afterEviction() {
        await until(
          async () => !(await isThere()),
          () => service.plus.relayStatus(),
        );
        const now = await look(values);
        return { created: now.created, weight: now.found.weight, brand: now.brand };
      },
      isCached: async () => (await isThere()) && (await look()).statements === 0,
    };
  }

  /** What a shop has of a brand. */
  async function shop(name: string): Promise<{ name: string; brand: CachedRow; post: CachedRow; note: CachedRow }> {
    const brand = await cached(Brand, { name }, {});
    const of = { brand: service.em().getReference(Brand, brand.id) };
    return { name, brand, post: await cached(Post, { name }, of), note: await cached(Note, { name }, of) };
  }

  test('an update by the psql program', async () => {
    const [changed, other] = [await shop('psql'), await shop('not psql')];
    await runInPsql(psql, `update brand set weight = 2 where name = 'psql'`);
    expect(await changed.brand.afterEviction()).toMatchObject({ created: false, weight: 2 });
    expect(await Promise.all([other.brand, changed.post].map((each) => each.isCached()))).toEqual([true, true]);
  });

  test('em.nativeUpdate() and a query builder', async () => {
    const native = await shop('native');
    await service.em().nativeUpdate(Brand, { name: 'native' }, { weight: 2 });
    expect(await native.brand.afterEviction()).toMatchObject({ created: false, weight: 2 });
    await service.orm.em.fork().createQueryBuilder(Post).update({ weight: 3 }).where({ name: 'native' }).execute();
    expect(await native.post.afterEviction()).toMatchObject({ created: false, weight: 3 });
    await service.em().nativeDelete(Note, { name: 'native' });
    expect(await native.note.afterEviction()).toMatchObject({ created: true });
  });

  test('insert … on conflict do update from elsewhere', async () => {
    const { brand, post } = await shop('merged');
    await psql.query(`insert into brand (name, weight) values ('merged', 2), ('not there', 3)
      on conflict (name) do update set weight = excluded.weight`);
    expect(await brand.afterEviction()).toMatchObject({ created: false, weight: 2 });
    expect(await find(Brand, { name: 'not there' })).toMatchObject({ created: false, found: { weight: 3 } });
    expect(await post.isCached()).toBe(true);
  });

  test('COPY into a table that merges what arrives; COPY itself only adds rows, which are found', async () => {
    const { brand } = await shop('copied');
    await psql.query(`create table arrival (name text, weight int)`);
    await psql.query(`create function merge_arrival() returns trigger language plpgsql as $$ begin
      update brand set weight = new.weight where name = new.name; return new; end $$`);
    await psql.query(`create trigger merge after insert on arrival for each row execute function merge_arrival()`);
    await psql.query(`copy arrival from program 'echo copied,4' with (format csv)`);
    expect(await brand.afterEviction()).toMatchObject({ created: false, weight: 4 });

    await psql.query(`copy brand (name, weight) from program 'echo new by copy,5' with (format csv)`);
    expect(await find(Brand, { name: 'new by copy' })).toMatchObject({ created: false, found: { weight: 5 } });
  });

  test('on delete cascade, and on delete set null', async () => {
    const [gone, stays] = [await shop('gone'), await shop('stays')];
    await psql.query(`delete from brand where name = 'gone'`);
    expect(await gone.note.afterEviction()).toEqual({ created: false, weight: 1, brand: null });
    await expect(gone.post.afterEviction()).rejects.toThrow(/violates foreign key constraint/);
    expect(await find(Post, { name: 'gone' }, { weight: 7 })).toMatchObject({ created: true });
    expect(await gone.brand.afterEviction()).toMatchObject({ created: true });
    const others = [stays.brand, stays.post, stays.note];
    expect(await Promise.all(others.map((each) => each.isCached()))).toEqual([true, true, true]);
  });

  test('truncate … cascade', async () => {
    const { brand, post, note } = await shop('truncated');
    await psql.query(`truncate brand cascade`);
    for (const entity of [Brand, Post, Note]) {
      await until(async () => (await find(entity, { name: 'truncated' }, { weight: 2 })).created);
    }
    for (const each of [brand, post, note]) expect(await each.isCached()).toBe(false);
  });

  test('a row of a partitioned table changes, or moves to another partition', async () => {
    const event = await cached(Event, { name: 'moves', day: 1 }, { id: 1 });
    await psql.query(`update event set weight = 2 where name = 'moves'`);
    expect(await event.afterEviction()).toMatchObject({ created: false, weight: 2 });
    await until(() => event.isCached());
    await psql.query(`update event set day = 2 where name = 'moves'`);
    expect(await event.afterEviction()).toMatchObject({ created: true });
    expect(await find(Event, { name: 'moves', day: 2 })).toMatchObject({ created: false });
  });
});

/** By the real program where there is one. */
async function runInPsql(client: Client, sql: string): Promise<void> {
  const { host, port, user, database } = client;
  const url = `postgresql://${user}@${host}:${port}/${database}`;
  try {
    await promisify(execFile)('psql', [url, '-v', 'ON_ERROR_STOP=1', '-c', sql]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await client.query(sql);
  }
}
