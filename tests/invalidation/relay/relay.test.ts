import type { Client } from 'pg';
import { triggersUp } from '../../../src/migrations.js';
import { Tag } from '../../cache/support/entities.js';
import { createTestOrm, type TestOrm } from '../../harness/orm.js';
import { rawClient, testPrefix } from '../../harness/servers.js';
import { createChangeLog, watch } from './support/change-log.js';
import { recordRelay, startService, until, type Service } from './support/services.js';

describe('the relay', () => {
  let database: TestOrm;
  let psql: Client;
  let prefix: string;
  let count = 0;

  beforeEach(async () => {
    database = await createTestOrm({ entities: [Tag] });
    psql = await rawClient(database.url);
    await createChangeLog(psql);
    await watch(psql, 'tag', 'id');
    prefix = `${testPrefix()}${(count += 1)}`;
  });

  afterEach(async () => {
    await psql.end();
    await database.close();
  });

  const start = (options: Partial<Parameters<typeof startService>[1]> = {}): Promise<Service> =>
    startService(database.url, { entities: [Tag], prefix, ...options });

  /** Creates a row and has the service keep it. */
  async function cache(service: Service, name: string): Promise<number> {
    const [tag] = await service.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    await expectCached(service, name);
    return tag.id;
  }

  async function lookup(
    service: Service,
    name: string,
  ): Promise<{ weight: number; statements: number; created: boolean }> {
    service.statements.take();
    const [tag, created] = await service.em().getRepository(Tag).getOrCreate({ name }, { weight: -1 });
    return { weight: tag.weight, statements: service.statements.take().length, created };
  }

  async function expectCached(service: Service, name: string): Promise<void> {
    await until(async () => (await lookup(service, name)).statements === 0);
  }

  const logged = async (): Promise<number> => (await psql.query('select from plus_change_log')).rowCount!;

  it('lets cached reads see what psql has updated, and removes from the log what it has delivered', async () => {
    await using service = await start();
    await cache(service, 'orm');
    await psql.query(`update tag set weight = 2 where name = 'orm'`);
    await until(
      async () => (await lookup(service, 'orm')).weight === 2,
      () => service.plus.relayStatus(),
    );
    await expectCached(service, 'orm');
    await until(async () => (await logged()) === 0);
    expect(service.plus.relayStatus()).toMatchObject({ role: 'active', listening: true, delivered: 1 });
    expect(service.plus.relayStatus().lastDeliveryAt).toBeInstanceOf(Date);
    expect(service.plus.relayStatus().lastError).toBeUndefined();
    expect(service.plus.statistics(Tag).evictions).toBe(1);
  });

  it('sees deletions, bulk statements, and TRUNCATE', async () => {
    await using service = await start();
    for (const name of ['a', 'b', 'c', 'd']) await cache(service, name);
    await psql.query(`delete from tag where name = 'a'`);
    await until(async () => (await lookup(service, 'a')).created);
    await service.orm.em.fork().createQueryBuilder(Tag).update({ weight: 5 }).where({ name: 'b' }).execute();
    await until(async () => (await lookup(service, 'b')).weight === 5);
    await service.em().nativeUpdate(Tag, { name: 'c' }, { weight: 6 });
    await until(async () => (await lookup(service, 'c')).weight === 6);
    await psql.query('truncate tag');
    await until(async () => (await lookup(service, 'd')).created);
  });

  it('delivers everything when one statement changes more rows than it reads at a time', async () => {
    await using service = await start({ relay: { pollInterval: 1_000, batchSize: 3 } });
    await psql.query(`insert into tag (name, weight) select 'n' || n, 1 from generate_series(1, 30000) n`);
    for (const name of ['n1', 'n15000', 'n30000']) await expectCached(service, name);
    await psql.query('update tag set weight = 2');
    await until(async () => (await logged()) === 0);
    for (const name of ['n1', 'n15000', 'n30000']) expect(await lookup(service, name)).toMatchObject({ weight: 2 });
    expect(service.plus.relayStatus().delivered).toBe(30);
    expect(service.plus.statistics(Tag).evictions).toBe(30_000);
  });

  it('finds what was logged while nobody was there', async () => {
    const earlier = await start();
    await cache(earlier, 'orm');
    await earlier.close();
    await psql.query(`update tag set weight = 2`);
    expect(await logged()).toBe(1);
    await using service = await start();
    await until(async () => (await logged()) === 0);
    expect(await lookup(service, 'orm')).toMatchObject({ weight: 2 });
  });

  it('finds by polling what it was not notified of', async () => {
    await using service = await start({ relay: { pollInterval: 50 } });
    const id = await cache(service, 'orm');
    await psql.query('alter table tag disable trigger user');
    await psql.query('update tag set weight = 2');
    expect(await lookup(service, 'orm')).toMatchObject({ weight: 1, statements: 0 });
    await psql.query(
      `insert into plus_change_log (table_schema, table_name, keys) values ('public', 'tag', jsonb_build_array(jsonb_build_object('id', $1::int)))`,
      [id],
    );
    await until(async () => (await lookup(service, 'orm')).weight === 2);
  });

  it('is active in one process at a time, and taken over when that one closes', async () => {
    using record = recordRelay();
    await using first = await start();
    await using second = await start();
    await using third = await start();
    expect([first, second, third].map(({ plus }) => plus.relayStatus().role)).toEqual(['active', 'standby', 'standby']);
    expect([first, second, third].every(({ plus }) => plus.relayStatus().listening)).toBe(true);
    await first.close();
    expect(first.plus.relayStatus().role).toBe('stopped');
    const roles = (): string[] => [second, third].map(({ plus }) => plus.relayStatus().role).toSorted();
    await until(() => roles().includes('active'), roles);
    expect(roles()).toEqual(['active', 'standby']);
    await cache(second, 'orm');
    await psql.query('update tag set weight = 2');
    await until(async () => (await lookup(third, 'orm')).weight === 2);
    expect(record.messages.filter(({ kind }) => kind === 'role').length).toBeGreaterThanOrEqual(5);
    expect(record.messages.filter(({ kind }) => kind === 'failure')).toEqual([]);
  });

  it('keeps what a store did not confirm, and delivers it when the store is back', async () => {
    using record = recordRelay();
    await using service = await start({ relay: { pollInterval: 200 } });
    await using reader = await start({ relay: false });
    await cache(reader, 'orm');
    service.store.fail();
    await psql.query('update tag set weight = 2');
    await until(
      () => (service.plus.relayStatus().backlog ?? 0) > 0,
      () => service.plus.relayStatus(),
    );
    expect(service.plus.relayStatus()).toMatchObject({ role: 'active', listening: true });
    expect(service.plus.relayStatus().lastError).toMatch(/did not confirm/);
    await psql.query('update tag set weight = 3');
    expect(await logged()).toBe(2);
    expect(await lookup(reader, 'orm')).toMatchObject({ weight: 1, statements: 0 });
    service.store.heal();
    await until(async () => (await lookup(reader, 'orm')).weight === 3);
    await until(() => service.plus.relayStatus().backlog === 0);
    expect(service.plus.relayStatus().lastError).toBeUndefined();
    expect(record.messages.filter(({ kind }) => kind === 'failure')).toHaveLength(1);
  });

  it('does not let a read under way put the old row back', async () => {
    await using relay = await start();
    await using reader = await start({ relay: false });
    const id = await cache(reader, 'orm');
    await reader.plus.evict(Tag, id);
    const filling = reader.store.pauseNext('fillMany');
    const slow = lookup(reader, 'orm');
    await filling.reached;
    const evicting = relay.store.pauseNext('evictMany');
    await psql.query('update tag set weight = 2');
    await evicting.reached;
    const during = lookup(reader, 'orm');
    evicting.open();
    await until(async () => (await logged()) === 0);
    filling.open();
    expect((await slow).weight).toBe(1);
    expect((await during).weight).toBe(2);
    for (let n = 0; n < 3; n += 1) expect((await lookup(reader, 'orm')).weight).toBe(2);
  });

  it('leaves changes of tables that it does not know to those who do, without being held up', async () => {
    await using service = await start({ relay: { pollInterval: 50, batchSize: 2 } });
    await cache(service, 'orm');
    for (let n = 0; n < 5; n += 1) {
      await psql.query(
        `insert into plus_change_log (table_schema, table_name, keys) values ('public', 'stranger', '[{"id": 1}]')`,
      );
    }
    await psql.query('update tag set weight = 2');
    await until(async () => (await lookup(service, 'orm')).weight === 2);
    await until(async () => (await logged()) === 5);
    expect(service.plus.relayStatus().backlog).toBe(0);
  });

  it('finds the rows of another schema, and those that the search path leads to', async () => {
    await psql.query('create schema tenant');
    await psql.query('create table tenant.tag (like public.tag including all)');
    for (const statement of triggersUp({ table: 'tag', schema: 'tenant', primaryKey: ['id'] }))
      await psql.query(statement);
    await using service = await start();
    await using onPath = await start({
      prefix: `${prefix}path`,
      relay: { pollInterval: 50 },
      orm: { driverOptions: { options: '-c search_path=tenant,public' } },
    });
    const inTenant = async (em = service.orm.em.fork({ schema: 'tenant' })): Promise<number> =>
      (await em.getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 1 }))[0].weight;
    await cache(service, 'orm');
    expect(await inTenant()).toBe(1);
    await psql.query('update tenant.tag set weight = 2');
    await until(async () => (await inTenant()) === 2);
    expect(await lookup(service, 'orm')).toMatchObject({ weight: 1 });
    await service.close();
    await until(() => onPath.plus.relayStatus().role === 'active');
    await cache(onPath, 'orm');
    await psql.query('update tenant.tag set weight = 3');
    await until(async () => (await lookup(onPath, 'orm')).weight === 3);
  });

  it('survives rows of the log that make no sense', async () => {
    await using service = await start({ relay: { pollInterval: 50 } });
    for (const keys of ['{}', '5', '[5]', '[{}]', '[{"id": "x"}]', '[{"id": 99999999999}]', '[]']) {
      await cache(service, 'orm');
      await psql.query(`insert into plus_change_log (table_schema, table_name, keys) values ('public', 'tag', $1)`, [
        keys,
      ]);
      await psql.query('update tag set weight = weight + 1');
      await until(
        async () => (await logged()) === 0,
        () => service.plus.relayStatus(),
      );
    }
    await psql.query(
      `insert into plus_change_log (table_schema, table_name, keys) values ('gone', 'tag', '[{"id": 1}]')`,
    );
    await psql.query(`notify plus_change, 'nonsense'`);
    await psql.query(`notify plus_change`);
    await until(
      async () => (await logged()) === 0,
      () => service.plus.relayStatus(),
    );
    expect(service.plus.relayStatus().role).toBe('active');
  });

  it('says that the log is missing, and goes on when it is there', async () => {
    await psql.query('alter table plus_change_log rename to elsewhere');
    await using service = await start({ relay: { pollInterval: 50 } });
    expect(service.plus.relayStatus()).toMatchObject({ role: 'active', listening: true });
    expect(service.plus.relayStatus().lastError).toMatch(/plus_change_log/);
    await cache(service, 'orm');
    await psql.query('alter table elsewhere rename to plus_change_log');
    await psql.query('update tag set weight = 2');
    await until(async () => (await lookup(service, 'orm')).weight === 2);
    await until(() => service.plus.relayStatus().lastError === undefined);
  });
});
