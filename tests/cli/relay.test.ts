import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { cacheRegion, PlusSubscriber, withPlusRepo } from '../../src/index.js';
import { withChangeLog } from '../../src/migrations.js';
import { connectTestOrm, type TestOrm } from '../harness/orm.js';
import { createDatabase, rawClient, testPrefix, testRedisUrl } from '../harness/servers.js';
import { createCliProject, type CliProject } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';
import { withChangeLog } from 'mikro-orm-plus/migrations';

const Tag = withPlusRepo(defineEntity({ name: 'Tag', properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().nullable() } }));
export default withChangeLog(defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [Tag],
  subscribers: process.env.WITHOUT_PLUS ? [] : [new PlusSubscriber({ stores: { default: process.env.REDIS_URL! }, prefix: process.env.PREFIX! })],
}));`;

const Tag = cacheRegion(
  withPlusRepo(
    defineEntity({
      name: 'Tag',
      properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().nullable() },
    }),
  ),
  { store: 'default' },
);

let project: CliProject;
let app: TestOrm;
let database: Client;
let env: Record<string, string>;

beforeAll(async () => {
  const prefix = `${testPrefix()}relay`;
  const plus = new PlusSubscriber({ stores: { default: testRedisUrl() }, prefix });
  const url = await createDatabase('relay');
  app = await connectTestOrm(url, withChangeLog({ entities: [Tag], subscribers: [plus] }));
  await app.orm.schema.create();
  env = { DATABASE_URL: app.url, REDIS_URL: testRedisUrl(), PREFIX: prefix };
  database = await rawClient(app.url);
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
});
afterAll(async () => {
  await database?.end();
  await project?.[Symbol.asyncDispose]();
});

const weightOf = async (name: string): Promise<number | null | undefined> => {
  const [tag] = await app.orm.em.fork().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
  return tag.weight;
};
const relayFindings = async () => {
  const { report } = await project.doctor(env);
  return report.findings.filter(({ topic }) => topic === 'relay');
};

it('delivers until SIGTERM, and doctor sees whether it runs', async () => {
  await weightOf('a');
  await weightOf('a');
  await using relay = project.start(['relay'], env);
  await relay.until(/ active\n/);
  expect(await relayFindings()).toMatchObject([{ severity: 'ok', code: 'relay.running' }]);

  await database.query("update tag set weight = 2 where name = 'a'");
  await relay.until(/ delivered 1 change, \d+ ms after the oldest\n/);
  expect(await weightOf('a')).toBe(2);

  const { code, stdout } = await relay.stop('SIGTERM');
  expect(code).toBe(0);
  expect(stdout).toMatch(/ stopped, 1 change delivered\n$/);
  expect(await relayFindings()).toMatchObject([{ severity: 'problem', code: 'relay.not-running' }]);
});

it('stands by while another one is active, and takes over', async () => {
  await using first = project.start(['relay'], env);
  await first.until(/ active\n/);
  await using second = project.start(['relay'], env);
  await second.until(/ standby\n/);
  await first.stop('SIGKILL');
  await second.until(/ active\n/);
  expect(await second.stop('SIGINT')).toMatchObject({ code: 0 });
});

it('tells why it has no connection, and ends when it is told to all the same', async () => {
  const nobody = 'postgresql://app:Swordfish-77@127.0.0.1:1/none';
  await using relay = project.start(['relay'], { ...env, DATABASE_URL: nobody });
  await relay.until(/ connect failed: .*ECONNREFUSED/);
  const { code, stdout, stderr } = await relay.stop('SIGTERM');
  expect(code).toBe(0);
  expect(stdout + stderr).not.toContain('Swordfish-77');
});

it('needs a PlusSubscriber', async () => {
  const { code, stderr } = await project.run(['relay'], { ...env, WITHOUT_PLUS: '1' });
  expect(code).toBe(2);
  expect(stderr).toMatch(/^error The configuration registers no PlusSubscriber/);
});
