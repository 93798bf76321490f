import { defineEntity, p } from '@mikro-orm/postgresql';
import type { StatsReport } from '../../src/cli/stats-report.js';
import { ConfigurationError, PlusSubscriber, withPlusRepo } from '../../src/index.js';
import { connectTestOrm, type TestOrm } from '../harness/orm.js';
import { RedisServers } from '../harness/redis-topologies.js';
import { createDatabase, testPrefix, testRedisUrl } from '../harness/servers.js';
import { createCliProject, type CliProject } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const keyed = (name: string) => withPlusRepo(defineEntity({ name, properties: { id: p.integer().primary(), name: p.string().unique() } }));
export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: ['Tag', 'Label'].map(keyed),
  subscribers: [new PlusSubscriber({ stores: { default: process.env.STORE! }, prefix: process.env.PREFIX! })],
});`;

const keyed = <N extends string>(name: N) =>
  withPlusRepo(defineEntity({ name, properties: { id: p.integer().primary(), name: p.string().unique() } }));
const Tag = keyed('Tag');
const Label = keyed('Label');

const SHARE_MS = 200;

let project: CliProject;
let app: TestOrm;
let env: Record<string, string>;

beforeAll(async () => {
  const prefix = `${testPrefix()}stats`;
  const plus = new PlusSubscriber({
    stores: { default: testRedisUrl() },
    prefix,
    timeout: 10_000,
    shareStatistics: SHARE_MS,
  });
  app = await connectTestOrm(await createDatabase('stats'), { entities: [Tag, Label], subscribers: [plus] });
  await app.orm.schema.create();
  env = { DATABASE_URL: app.url, STORE: testRedisUrl(), PREFIX: prefix };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
});
afterAll(() => project?.[Symbol.asyncDispose]());

const lookUp = async (name: string) => app.orm.em.fork().getRepository(Tag).getOrCreate({ name });

/** Looks until a condition holds: processes publish in their own time. */
async function look(args: string[], isDone: (report: StatsReport) => boolean): Promise<StatsReport> {
  for (let attempt = 1; ; attempt += 1) {
    const { stdout, stderr, code } = await project.run(['stats', '--json', ...args], env);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as StatsReport;
    if (isDone(report) || attempt === 5) return report;
  }
}

it('shows the counters of running processes, and what Redis holds', async () => {
  for (const name of ['a', 'b', 'c', 'a', 'b', 'a']) await lookUp(name);
  await app.orm.em.fork().getRepository(Label).getOrCreate({ name: 'x' });
  const { processes, entities, regions, stores, format } = await look(
    [],
    (report) => report.entities.Label?.lookups === 1,
  );
  expect(format).toBe(1);
  expect(processes).toMatchObject([{ pid: process.pid, statistics: { lookups: 7, created: 4 } }]);
  expect(entities).toMatchObject({ Label: { lookups: 1, created: 1 }, Tag: { lookups: 6, created: 3 } });
  expect(regions.toSorted((one, other) => (one.entity < other.entity ? -1 : 1))).toMatchObject([
    { entity: 'Label', store: 'default', rows: 1, lookups: 1 },
    { entity: 'Tag', store: 'default', rows: 3, lookups: 3 },
  ]);
  expect(stores).toMatchObject([{ store: 'default' }]);
  expect(stores[0]!.usedMemoryBytes).toBeGreaterThan(100_000);

  const ofOne = await look(['Tag'], () => true);
  expect(ofOne.processes).toMatchObject([{ statistics: { lookups: 6 } }]);
  expect(Object.keys(ofOne.entities)).toEqual(['Tag']);
  expect(ofOne.regions).toMatchObject([{ entity: 'Tag' }]);

  const { stdout } = await project.run(['stats'], env);
  expect(stdout).toMatch(/^Processes\nprocess +since \(UTC\) +lookups +hits/);
  expect(stdout).toMatch(/\nTag +6 +\d+\.\d %/);
  expect(stdout).toMatch(/\nEntries in Redis\nentity +store +rows +lookups\n/);
});

it('goes on until it is stopped, and shows rates', async () => {
  await using watch = project.start(['stats', 'Tag', '--watch', '--interval', '0.1'], env);
  await watch.until(/lookups\/s/);
  await lookUp('a');
  expect(await watch.stop('SIGINT')).toMatchObject({ code: 0, stderr: '' });
});

it('forgets a process that is gone', async () => {
  const plus = new PlusSubscriber({
    stores: { default: testRedisUrl() },
    prefix: env.PREFIX!,
    shareStatistics: SHARE_MS,
  });
  const other = await connectTestOrm(app.url, { entities: [Tag, Label], subscribers: [plus] });
  await plus.start(other.orm);
  expect((await look([], ({ processes }) => processes.length === 2)).processes).toHaveLength(2);
  await other.close();
  expect((await look([], ({ processes }) => processes.length === 1)).processes).toHaveLength(1);
});

it('says that nothing is shared, that nothing is in Redis, and that a store is down', async () => {
  const nobody = await project.run(['stats'], { ...env, PREFIX: `${testPrefix()}nobody` });
  expect(nobody.stdout).toMatch(
    /^No process shares its statistics\. To see them: new PlusSubscriber\({ shareStatistics/,
  );
  const memory = await project.run(['stats'], { ...env, STORE: 'memory://' });
  expect(memory).toMatchObject({ code: 0, stdout: expect.stringMatching(/^No store is in Redis/) });
  const down = await project.run(['stats'], { ...env, STORE: 'redis://:Swordfish-77@127.0.0.1:1' });
  expect(down.code).toBe(1);
  expect(down.stdout).toMatch(/✖ store 'default' does not answer: /);
  expect(down.stdout + down.stderr).not.toContain('Swordfish-77');
});

it('refuses an unknown entity, and an interval that can’t be', async () => {
  expect(await project.run(['stats', 'Tags'], env)).toMatchObject({
    code: 2,
    stderr: "error There is no entity 'Tags'. Did you mean 'Tag'?\n",
  });
  expect(await project.run(['stats', '--watch', '--interval', 'often'], env)).toMatchObject({ code: 2 });
});

describe('sharing statistics', () => {
  it('works with the documented rights, and evicting a region leaves it alone', async () => {
    await using servers = await RedisServers.open();
    const node = await servers.add('redis');
    const rights =
      'SETUSER cache on >password resetchannels resetkeys ~shop* -@all +evalsha +eval +get +getex +set +del +time +info +scan +ping';
    await node.client.call('ACL', rights.split(' '));
    const url = `redis://cache:password@${node.address}`;
    const plus = new PlusSubscriber({
      stores: { default: url },
      prefix: 'shop',
      timeout: 10_000,
      shareStatistics: 60_000,
    });
    const other = await connectTestOrm(app.url, { entities: [Tag, Label], subscribers: [plus] });
    await plus.start(other.orm);
    await other.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'a' });
    await plus.evictAll();
    const shared = await project.run(['stats', '--json'], { ...env, STORE: url, PREFIX: 'shop' });
    expect((JSON.parse(shared.stdout) as StatsReport).processes).toMatchObject([{ pid: process.pid }]);
    await other.close();
  });

  it('never counts as a failure of a store', async () => {
    const plus = new PlusSubscriber({
      stores: { default: 'memory://', redis: 'redis://127.0.0.1:1' },
      shareStatistics: 100,
    });
    const other = await connectTestOrm(app.url, { entities: [Tag, Label], subscribers: [plus] });
    await other.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'a' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(plus.statistics()).toMatchObject({ lookups: 1, storeFailures: 0 });
    await other.close();
  });

  it('needs a store in Redis, and a sensible interval', async () => {
    expect(() => new PlusSubscriber({ shareStatistics: 10 })).toThrow(ConfigurationError);
    const plus = new PlusSubscriber({ shareStatistics: 1_000 });
    const other = await connectTestOrm(app.url, { entities: [Tag, Label], subscribers: [plus] });
    await expect(plus.start(other.orm)).rejects.toThrow(/needs a store in Redis/);
    await other.close();
  });
});
