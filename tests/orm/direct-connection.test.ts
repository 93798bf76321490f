import { MikroORM } from '@mikro-orm/pglite';
import { ConfigurationError } from '../../src/errors.js';
import { destroyConnection, directConnector } from '../../src/orm/direct-connection.js';
import { Tag } from '../cache/support/entities.js';
import { createTestOrm } from '../harness/orm.js';

describe('a connection beside the pool', () => {
  it('has the settings of the pool, so that values arrive as the driver gives them', async () => {
    await using database = await createTestOrm({ entities: [Tag] });
    const connect = await directConnector(database.orm.em);
    for (const client of [connect(), (await directConnector(database.orm.em, database.url))()]) {
      const ended = new Promise<void>((resolve) => client.on('end', resolve));
      client.on('error', () => undefined);
      await client.connect();
      const sql = `select 9007199254740993 as big, '2026-01-02 03:04:05+00'::timestamptz as at, array['a'] as list,
        current_database() as name, current_setting('application_name') as application`;
      const { rows } = await client.query(sql);
      const [expected] = await database.orm.em.execute<object[]>(sql);
      expect(rows[0]).toEqual({ ...expected, application: 'mikro-orm-plus relay' });
      expect((await client.query('select pg_backend_pid() as pid')).rows[0]!.pid).toBe(client.processID);
      destroyConnection(client);
      await ended;
    }
  });

  it('can still be made when the pool is closed, without opening it again', async () => {
    await using database = await createTestOrm({ entities: [Tag] });
    const connect = await directConnector(database.orm.em);
    await database.orm.close();
    const client = connect();
    await client.connect();
    await client.end();
    expect(await database.orm.isConnected()).toBe(false);
  });

  it('is refused by a driver without a pool', async () => {
    const orm = await MikroORM.init({ entities: [Tag], dbName: 'memory://' });
    await expect(directConnector(orm.em as never)).rejects.toThrow(ConfigurationError);
    await orm.close();
  });
});
