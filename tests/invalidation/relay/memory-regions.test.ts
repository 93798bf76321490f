import { defineEntity, p, Type } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { MemoryStore, withPlusRepo } from '../../../src/index.js';
import { Tag } from '../../cache/support/entities.js';
import { createTestOrm, type TestOrm } from '../../harness/orm.js';
import { rawClient, testPrefix } from '../../harness/servers.js';
import { TcpProxy } from '../../harness/tcp-proxy.js';
import { createChangeLog, watch } from './support/change-log.js';
import { startService, until, type Service } from './support/services.js';

const MAX_STALENESS_MS = 1_000;

class Padded extends Type<string, string> {
  override convertToDatabaseValue(value: string): string {
    return value.padStart(6, '0');
  }

  override convertToJSValue(value: string): string {
    return value.replace(/^0+/, '');
  }

  override getColumnType(): string {
    return 'varchar(6)';
  }
}

const keyed = <K extends object>(name: string, keys: K) =>
  withPlusRepo(
    defineEntity({
      name,
      properties: { ...keys, name: p.string().unique(), weight: p.integer().default(0) },
    }),
  );

const ByBigint = keyed('ByBigint', { id: p.bigint('string').primary() });
const ByUuid = keyed('ByUuid', { id: p.uuid().primary() });
const ByPair = keyed('ByPair', { left: p.integer().primary(), right: p.string().primary() });
const ByPadded = keyed('ByPadded', { code: p.type(Padded).primary() });
const kinds = [ByBigint, ByUuid, ByPair, ByPadded];

describe('a region in the memory of each process', () => {
  let database: TestOrm;
  let psql: Client;
  const entities = [Tag, ...kinds];

  beforeAll(async () => {
    database = await createTestOrm({ entities });
    psql = await rawClient(database.url);
    await createChangeLog(psql);
    for (const table of ['tag', 'by_bigint', 'by_uuid']) await watch(psql, table, 'id');
    await watch(psql, 'by_pair', 'left', 'right');
    await watch(psql, 'by_padded', 'code');
  });

  afterAll(async () => {
    await psql.end();
    await database.close();
  });

  const start = (connection?: string): Promise<Service> =>
    startService(database.url, {
      entities,
      prefix: testPrefix(),
      store: new MemoryStore(),
      relay: { pollInterval: 500, ...(connection === undefined ? {} : { connection }) },
      regions: { maxStaleness: MAX_STALENESS_MS },
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

  const set = (name: string, weight: number): Promise<unknown> =>
    psql.query('update tag set weight = $2 where name = $1', [name, weight]);

  it('follows what others change, in every process, and counts it', async () => {
    await using first = await start();
    await using second = await start();
    const services = [first, second];
    for (const service of services) await cache(service, 'followed');
    for (const weight of [2, 3, 4]) {
      await set('followed', weight);
      for (const service of services) {
        await until(async () => (await lookup(service, 'followed')).weight === weight);
        await cache(service, 'followed');
        expect(await lookup(service, 'followed')).toMatchObject({ weight });
      }
    }
    for (const service of services) expect(service.plus.statistics(Tag).evictions).toBeGreaterThanOrEqual(3);
    const em = second.em();
    (await em.findOneOrFail(Tag, { name: 'followed' })).weight = 5;
    await em.flush();
    await until(async () => (await lookup(first, 'followed')).weight === 5);
    await until(async () => (await psql.query('select from plus_change_log')).rowCount === 0);
  });

  it('is emptied by TRUNCATE, and by a statement of more rows than a notification can name', async () => {
    await using service = await start();
    await psql.query(`insert into tag (name, weight) select 'many' || n, 1 from generate_series(1, 2000) n`);
    await cache(service, 'many7');
    await psql.query(`update tag set weight = 2 where name like 'many%'`);
    await until(async () => (await lookup(service, 'many7')).weight === 2);
    await cache(service, 'many7');
    await psql.query('truncate tag');
    await until(async () => (await lookup(service, 'many7')).statements > 0);
    expect(await lookup(service, 'many7')).toMatchObject({ weight: 1 });
  });

  it.each(kinds.map((entity) => entity.meta.className))('names the rows of %s', async (name) => {
    const entity = kinds.find(({ meta }) => meta.className === name) as unknown as typeof Tag;
    await using service = await start();
    const keys = {
      ByBigint: { id: '9007199254740993' },
      ByUuid: { id: 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' },
      ByPair: { left: 7, right: `it's "right"` },
      ByPadded: { code: '42' },
    }[name]!;
    const look = async (): Promise<{ weight: number; statements: number }> => {
      service.statements.take();
      const repository = service.em().getRepository(entity);
      const [row] = await repository.getOrCreate({ name: 'x' }, { weight: 1, ...keys } as object);
      return { weight: row.weight, statements: service.statements.take().length };
    };
    await until(async () => (await look()).statements === 0);
    const evictions = service.plus.statistics(entity).evictions;
    const { tableName } = service.orm.getMetadata().get(entity);
    await psql.query(`update ${tableName} set weight = 2`);
    await until(async () => (await look()).weight === 2);
    // by its key, not by emptying the region
    expect(service.plus.statistics(entity).evictions - evictions).toBe(1);
    expect(service.plus.relayStatus().lastError).toBeUndefined();
  });

  it('does not take a row that was selected before the change was notified', async () => {
    await using service = await start();
    await cache(service, 'raced');
    await service.em().getRepository(Tag).evict({ name: 'raced' });
    for (const isKnown of [true, false]) {
      // the first by a lease on the known key, the second, whose lookup is forgotten, by a guard
      if (!isKnown) await service.plus.evictAll(Tag);
      const filling = service.store.pauseNext('fillMany');
      const slow = lookup(service, 'raced');
      await filling.reached;
      const before = service.plus.statistics(Tag).evictions;
      await psql.query(`update tag set weight = weight + 10 where name = 'raced'`);
      await until(() => service.plus.statistics(Tag).evictions > before);
      const refused = service.plus.statistics(Tag).refusedFills;
      filling.open();
      const old = (await slow).weight;
      expect(service.plus.statistics(Tag).refusedFills).toBe(refused + 1);
      expect((await lookup(service, 'raced')).weight).toBe(old + 10);
    }
  });

  it('serves nothing while it can not listen, and nothing from before when it can again', async () => {
    await using proxy = await TcpProxy.start(database.url);
    await using service = await start(proxy.through(database.url));
    await cache(service, 'cut');
    proxy.set({ kind: 'cut' });
    await until(() => !service.plus.relayStatus().listening);
    expect(service.plus.relayStatus().role).toBe('disconnected');
    await set('cut', 2);
    for (let n = 0; n < 3; n += 1) expect(await lookup(service, 'cut')).toEqual({ weight: 2, statements: 1 });
    await expect(service.em().getRepository(Tag).warmUp()).rejects.toThrow("isn't told of changes");
    // written through, while nobody listens
    await service.em().getRepository(Tag).updateOrCreate({ name: 'cut' }, { weight: 3 });
    await set('cut', 4);
    proxy.open();
    await cache(service, 'cut');
    expect(await lookup(service, 'cut')).toEqual({ weight: 4, statements: 0 });
    await set('cut', 5);
    await until(async () => (await lookup(service, 'cut')).weight === 5);
  });

  it('serves nothing old for longer than maxStaleness on a connection that is dead without knowing it', async () => {
    await using proxy = await TcpProxy.start(database.url);
    await using service = await start(proxy.through(database.url));
    await cache(service, 'stranded');
    proxy.set({ kind: 'stranded' });
    await set('stranded', 2);
    const changedAt = performance.now();
    let served = 0;
    for (;;) {
      const { weight } = await lookup(service, 'stranded');
      const askedMs = performance.now() - changedAt;
      if (weight === 2) break;
      served += 1;
      expect(askedMs).toBeLessThan(MAX_STALENESS_MS + 500);
    }
    expect(served).toBeGreaterThan(0);
    // it connects anew, and goes on
    await cache(service, 'stranded');
    await set('stranded', 3);
    await until(async () => (await lookup(service, 'stranded')).weight === 3);
  });

  it('serves nothing before it has listened', async () => {
    await using proxy = await TcpProxy.start(database.url);
    proxy.set({ kind: 'cut' });
    await using service = await start(proxy.through(database.url));
    expect(service.plus.relayStatus()).toMatchObject({ role: 'disconnected', listening: false });
    expect(service.plus.relayStatus().lastError).toBeDefined();
    await lookup(service, 'early');
    for (let n = 0; n < 3; n += 1) expect((await lookup(service, 'early')).statements).toBe(1);
    proxy.open();
    await cache(service, 'early');
  });
});
