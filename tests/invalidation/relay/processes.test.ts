import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Client } from 'pg';
import { Tag } from '../../cache/support/entities.js';
import { createTestOrm, type TestOrm } from '../../harness/orm.js';
import { startProcesses } from '../../harness/processes.js';
import { rawClient, testPrefix, testRedisUrl } from '../../harness/servers.js';
import { createChangeLog, watch } from './support/change-log.js';
import type relayWorker from './support/relay.worker.js';
import type { Death } from './support/relay.worker.js';
import { until } from './support/services.js';
import { typescriptArgs } from '../../harness/typescript-args.js';

describe('processes with a relay each', () => {
  let database: TestOrm;
  let psql: Client;
  const worker = new URL('./support/relay.worker.ts', import.meta.url);

  beforeAll(async () => {
    database = await createTestOrm({ entities: [Tag] });
    psql = await rawClient(database.url);
    await createChangeLog(psql);
    await watch(psql, 'tag', 'id');
  });

  afterAll(async () => {
    await psql.end();
    await database.close();
  });

  const start = (prefix: string, count: number) =>
    startProcesses<typeof relayWorker>(worker, {
      count,
      init: { url: database.url, redisUrl: testRedisUrl(), prefix: `${testPrefix()}${prefix}` },
    });

  it('see what psql has changed', async () => {
    await using group = await start('psql', 3);
    await until(async () => (await group.round(() => ({ name: 'orm' }))).every(({ statements }) => statements === 0));
    for (const weight of [2, 3]) {
      await psql.query(`update tag set weight = $1 where name = 'orm'`, [weight]);
      await until(async () => (await group.round(() => ({ name: 'orm' }))).every((result) => result.weight === weight));
      await until(async () => (await group.round(() => ({ name: 'orm' }))).every(({ statements }) => statements === 0));
    }
    const results = await group.round(() => ({}));
    expect(results.map(({ status }) => status.role).toSorted()).toEqual(['active', 'standby', 'standby']);
    expect(results.flatMap(({ unhandled }) => unhandled)).toEqual([]);
  });

  it.each<[Death]>([['before evict'], ['after evict']])(
    'lose nothing when the active one is killed %s',
    async (death) => {
      await using group = await start(death!, 3);
      const name = `killed ${death}`;
      await until(async () => (await group.round(() => ({ name }))).every(({ statements }) => statements === 0));
      let active = -1;
      await until(async () => {
        active = (await group.round(() => ({}))).findIndex(({ status }) => status.role === 'active');
        return active >= 0;
      });
      await group.round((index) => (index === active ? { death } : {}));
      await psql.query('update tag set weight = 2 where name = $1', [name]);
      const survivors = async () =>
        (await group.settle(() => ({ name }))).flatMap((result) =>
          result.status === 'fulfilled' ? [result.value] : [],
        );
      let alive = await survivors();
      await until(
        async () => {
          alive = await survivors();
          return alive.length === 2 && alive.every(({ weight }) => weight === 2);
        },
        () => alive,
      );
      await until(async () => (await psql.query('select from plus_change_log')).rowCount === 0);
      await until(async () => (await survivors()).some(({ status }) => status.role === 'active'));
      expect((await survivors()).flatMap(({ unhandled }) => unhandled)).toEqual([]);
    },
  );

  it.each(['closes', 'forgets'])('end by themselves when the application %s', async (how) => {
    const program = fileURLToPath(new URL('./support/leaves.fixture.ts', import.meta.url));
    const args = [...typescriptArgs, program, database.url, how];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 40_000 });
    expect(stdout).toBe(how === 'closes' ? 'active\nstopped\n' : 'active\n');
  });
});
