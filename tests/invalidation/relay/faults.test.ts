import { Redis } from 'ioredis';
import { MikroORM } from '@mikro-orm/pglite';
import type { Client } from 'pg';
import { ConfigurationError, PlusSubscriber, RedisStore, type RelayOptions } from '../../../src/index.js';
import { Tag } from '../../cache/support/entities.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../../harness/orm.js';
import { rawClient, startServers, testPrefix } from '../../harness/servers.js';
import { TcpProxy } from '../../harness/tcp-proxy.js';
import { createChangeLog, watch } from './support/change-log.js';
import { startService, until, type Service } from './support/services.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);

beforeAll(() => void process.on('unhandledRejection', note));
afterAll(() => {
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

async function lookup(service: Service, name: string): Promise<{ weight: number; statements: number }> {
  service.statements.take();
  const [tag] = await service.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
  return { weight: tag.weight, statements: service.statements.take().length };
}

async function cache(service: Service, name: string): Promise<void> {
  await until(
    async () => (await lookup(service, name)).statements === 0,
    () => service.plus.relayStatus(),
  );
}

async function prepare(url: string): Promise<Client> {
  const psql = await rawClient(url);
  psql.on('error', () => undefined);
  await createChangeLog(psql);
  await watch(psql, 'tag', 'id');
  return psql;
}

describe('a relay whose PostgreSQL restarts', () => {
  it('connects again and loses nothing', async () => {
    await using servers = await startServers({ postgres: true });
    const { url } = servers.postgres!;
    const options = { entities: [Tag], prefix: `${testPrefix()}restart`, relay: { pollInterval: 500 } };
    const setUp = await connectTestOrm(url, { entities: [Tag] });
    await setUp.orm.schema.create();
    await setUp.close();
    let psql = await prepare(url);
    await using first = await startService(url, options);
    await using second = await startService(url, options);
    await cache(first, 'orm');
    for (const weight of [2, 3]) {
      const { rows } = await psql.query<{ pid: number }>('select pg_backend_pid() as pid');
      await psql.query('update tag set weight = $1', [weight]);
      // PostgreSQL can't know what a killed backend has left in memory: it ends all others, recovers, and starts again
      process.kill(rows[0]!.pid, 'SIGKILL');
      await until(() => [first, second].some(({ plus }) => !plus.relayStatus().listening));
      await until(
        () => [first, second].every(({ plus }) => plus.relayStatus().listening),
        () => first.plus.relayStatus(),
      );
      psql = await rawClient(url);
      psql.on('error', () => undefined);
      for (const service of [first, second]) await until(async () => (await lookup(service, 'orm')).weight === weight);
      await cache(first, 'orm');
      await psql.query('update tag set weight = weight + 10');
      await until(async () => (await lookup(second, 'orm')).weight === weight + 10);
      const roles = () => [first, second].map(({ plus }) => plus.relayStatus().role).toSorted();
      await until(() => roles().join() === 'active,standby', roles);
    }
    await until(async () => (await psql.query('select from plus_change_log')).rowCount === 0);
    expect(first.plus.relayStatus().lastError).toBeUndefined();
    await psql.end();
  });
});

describe('a relay', () => {
  let database: TestOrm;
  let psql: Client;

  beforeEach(async () => {
    database = await createTestOrm({ entities: [Tag] });
    psql = await prepare(database.url);
  });

  afterEach(async () => {
    await psql.end();
    await database.close();
  });

  const logged = async (): Promise<number> => (await psql.query('select from plus_change_log')).rowCount!;

  it('keeps its backlog while Redis is out of reach, and delivers it when Redis is back, emptied or not', async () => {
    await using servers = await startServers({ redis: true });
    const { url } = servers.redis!;
    await using proxy = await TcpProxy.start(url);
    const prefix = testPrefix();
    const relay = { pollInterval: 200 };
    const timeout = 1_000;
    await using cut = await startService(database.url, {
      entities: [Tag],
      prefix,
      relay,
      timeout,
      store: new RedisStore(proxy.through(url)),
    });
    await using reader = await startService(database.url, {
      entities: [Tag],
      prefix,
      relay: false,
      store: new RedisStore(url),
    });
    const redis = new Redis(url);
    for (const [weight, isEmptied] of [
      [2, false],
      [3, true],
    ] as const) {
      await cache(reader, 'orm');
      proxy.set({ kind: 'cut' });
      await psql.query('update tag set weight = $1', [weight]);
      await until(
        () => (cut.plus.relayStatus().backlog ?? 0) > 0,
        () => cut.plus.relayStatus(),
      );
      expect(await logged()).toBe(1);
      // the application goes on meanwhile, past the cache
      expect(await lookup(cut, 'orm')).toMatchObject({ weight });
      if (isEmptied) await redis.flushall();
      proxy.open();
      await until(
        async () => (await logged()) === 0,
        () => cut.plus.relayStatus(),
      );
      expect(await lookup(reader, 'orm')).toMatchObject({ weight });
    }
    redis.disconnect();
  });

  it('is helped by a stand-by when it is gone without the server knowing', async () => {
    await using proxy = await TcpProxy.start(database.url);
    const prefix = testPrefix();
    const start = (relay: RelayOptions): Promise<Service> =>
      startService(database.url, { entities: [Tag], prefix, relay });
    await using active = await start({ pollInterval: 60_000, connection: proxy.through(database.url) });
    expect(active.plus.relayStatus().role).toBe('active');
    await using standby = await start({ pollInterval: 300 });
    await cache(standby, 'orm');
    // the server's end of the connection stays open, and with it the lock
    proxy.set({ kind: 'stranded' });
    await psql.query('update tag set weight = 2');
    await until(
      async () => (await lookup(standby, 'orm')).weight === 2,
      () => standby.plus.relayStatus(),
    );
    await until(async () => (await logged()) === 0);
    expect(standby.plus.relayStatus()).toMatchObject({ role: 'standby', delivered: 1 });
  });

  it('works past a PgBouncer in transaction mode by a connection of its own, and says so when it has none', async () => {
    await using servers = await startServers({ pgbouncer: database.url });
    const bouncer = servers.pgbouncer!.url;
    const prefix = testPrefix();
    const plus = new PlusSubscriber({ relay: true });
    const without = await connectTestOrm(bouncer, { entities: [Tag], subscribers: [plus] });
    await expect(plus.start(without.orm)).rejects.toThrow(ConfigurationError);
    await expect(plus.start(without.orm)).rejects.toThrow(/relay\.connection/);
    expect(plus.relayStatus()).toMatchObject({ role: 'stopped', listening: false });
    // the rest of the application works all the same
    await without.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 1 });
    await without.close();
    await using service = await startService(bouncer, {
      entities: [Tag],
      prefix,
      relay: { connection: database.url, pollInterval: 500 },
    });
    expect(service.plus.relayStatus()).toMatchObject({ role: 'active', listening: true });
    await cache(service, 'orm');
    for (const weight of [2, 3, 4]) {
      await service.em().nativeUpdate(Tag, { name: 'orm' }, { weight });
      await until(async () => (await lookup(service, 'orm')).weight === weight);
    }
    const { rows } = await psql.query(
      `select application_name from pg_locks join pg_stat_activity using (pid)
       where locktype = 'advisory' and datname = current_database()`,
    );
    expect(rows).toEqual([{ application_name: 'mikro-orm-plus relay' }]);
  });

  it('refuses a "direct" connection that turns out to be none', async () => {
    await using servers = await startServers({ pgbouncer: database.url });
    const plus = new PlusSubscriber({ relay: { connection: servers.pgbouncer!.url } });
    const { orm } = await connectTestOrm(database.url, { entities: [Tag], subscribers: [plus] });
    await expect(plus.start(orm)).rejects.toThrow(/relay\.connection/);
    expect(plus.relayStatus()).toMatchObject({ role: 'stopped', listening: false });
    const locks = await psql.query(`select from pg_locks where locktype = 'advisory'
      and database = (select oid from pg_database where datname = current_database())`);
    expect(locks.rowCount).toBe(0);
    await orm.close();
  });

  it('is refused on PGlite, which has one connection', async () => {
    const plus = new PlusSubscriber({ relay: true });
    const orm = await MikroORM.init({ entities: [Tag], dbName: 'memory://', subscribers: [plus] });
    await expect(plus.start(orm as never)).rejects.toThrow(/PGlite has but one/);
    expect(plus.relayStatus()).toMatchObject({ role: 'stopped', lastError: expect.stringMatching(/PGlite/) });
    await orm.close();
  });
});
