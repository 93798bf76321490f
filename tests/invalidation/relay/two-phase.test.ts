import { Tag } from '../../cache/support/entities.js';
import { connectTestOrm } from '../../harness/orm.js';
import { rawClient, startServers, testPrefix } from '../../harness/servers.js';
import { changeLogUp, triggersUp } from '../../../src/migrations.js';
import { startService, until } from './support/services.js';

// a server of its own: others may not allow prepared transactions
test('two-phase commits of a watched table are refused by PostgreSQL, unless its triggers notify nothing', async () => {
  await using servers = await startServers({ postgres: true });
  const { url } = servers.postgres!;
  await using setUp = await connectTestOrm(url, { entities: [Tag] });
  await setUp.orm.schema.create();
  const psql = await rawClient(url);
  psql.on('error', () => undefined);
  const logged = async () => (await psql.query('select from plus_change_log')).rowCount;
  for (const sql of [...changeLogUp(), ...triggersUp({ table: 'tag', primaryKey: ['id'] })]) await psql.query(sql);
  await psql.query(`insert into tag (name, weight) values ('orm', 1)`);

  await psql.query(`begin; update tag set weight = 2`);
  await expect(psql.query(`prepare transaction 'notifies'`)).rejects.toThrow(/cannot PREPARE a transaction.*NOTIFY/);
  expect((await psql.query('select weight from tag')).rows).toEqual([{ weight: 1 }]);
  expect(await logged()).toBe(0);

  for (const sql of triggersUp({ table: 'tag', primaryKey: ['id'], notify: false })) await psql.query(sql);
  await using service = await startService(url, {
    entities: [Tag],
    prefix: `${testPrefix()}two-phase`,
    relay: { pollInterval: 50 },
  });
  const lookup = async () => {
    service.statements.take();
    const [tag] = await service.em().getRepository(Tag).getOrCreate({ name: 'orm' });
    return { weight: tag.weight, statements: service.statements.take().length };
  };
  await until(async () => (await lookup()).statements === 0);
  for (const weight of [2, 3]) {
    await psql.query(`begin; update tag set weight = ${weight}; prepare transaction 'quiet'`);
    expect(await logged()).toBe(0);
    expect(await lookup()).toEqual({ weight: weight - 1, statements: 0 });
    await psql.query(`commit prepared 'quiet'`);
    await until(async () => (await lookup()).weight === weight);
    await until(async () => (await lookup()).statements === 0);
  }
  await psql.query(`insert into tag (name, weight) select 'many' || i, 1 from generate_series(1, 2000) i`);
  for (const statement of [`update tag set weight = 4`, `delete from tag`, `truncate tag`]) {
    await psql.query(`begin; ${statement}; prepare transaction 'all'`);
    await psql.query(`commit prepared 'all'`);
  }
  await until(async () => (await logged()) === 0);
  await psql.end();
});
