import type { Client } from 'pg';
import { triggersUp } from '../../src/migrations.js';
import { createDatabase, rawClient, testPrefix, testRedisUrl } from '../harness/servers.js';
import { createCliProject, type CliProject, type JsonFinding } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';
import { withChangeLog } from 'mikro-orm-plus/migrations';

const keyed = (name: string) => withPlusRepo(defineEntity({ name, properties: { id: p.integer().primary(), name: p.string().unique() } }));
const config = defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: ['Fine', 'Off', 'Replica', 'Old', 'Doubled', 'Bare', 'Public'].map(keyed),
  subscribers: [new PlusSubscriber({
    stores: { default: process.env.REDIS_URL! },
    prefix: process.env.PREFIX!,
    ...(process.env.LOG_SCHEMA && { relay: { schema: process.env.LOG_SCHEMA } }),
  })],
});
export default process.env.WITHOUT_LOG ? config : withChangeLog(config);`;

const DEFECTS = `
  alter table off disable trigger plus_v3_update;
  alter table replica enable replica trigger plus_v3_delete;
  alter trigger plus_v3_update on old rename to plus_v0_update;
  create trigger plus_v0_delete after delete on doubled referencing old table as changed
    for each statement execute function doubled_plus_v3_delete_fn();
  drop trigger plus_v3_truncate on bare;
  grant execute on function public_plus_v3_delete_fn() to public;
  create table other (id serial primary key);
`;

let project: CliProject;
let database: Client;
let env: Record<string, string>;

beforeAll(async () => {
  const url = await createDatabase('change-log');
  env = { DATABASE_URL: url, REDIS_URL: testRedisUrl(), PREFIX: `${testPrefix()}log` };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
  database = await rawClient(url);
});
afterAll(async () => {
  await database?.query(`drop owned by "${reader}"; drop role "${reader}"`).catch(() => undefined);
  await database?.end();
  await project?.[Symbol.asyncDispose]();
});

// roles are the server's, not the database's
const reader = `reader_${process.pid}_${Date.now()}`;
const asReader = (): string => {
  const url = new URL(env.DATABASE_URL!);
  url.username = reader;
  url.password = 'reader';
  return url.href;
};

const brief = ({ severity, subject, code }: JsonFinding): string => `${severity} ${subject} ${code}`;
const look = async (more: Record<string, string> = {}): Promise<JsonFinding[]> => {
  const { report } = await project.doctor({ ...env, ...more });
  return report.findings.filter(({ topic }) => topic === 'change-log' || topic === 'relay');
};

// one after another, as a person would come across them
it('tells of a project without a log, then of tables without triggers, then of each trigger that is wrong', async () => {
  const without = await look({ WITHOUT_LOG: '1' });
  expect(without.map(brief)).toEqual(['warning Bare, Doubled, Fine, Off, Old, Public, Replica change-log.none']);
  expect(without[0]!.remedy.join('\n')).toMatch(/withChangeLog.*\n.*migration:create/);

  const before = await look();
  expect(before.map(brief)).toEqual(['problem plus_change_log change-log.log-missing']);

  const created = await project.mikroOrm(['schema:create', '--run'], env);
  expect(created).toMatchObject({ code: 0 });
  const installed = await look();
  expect(installed.map(brief)).toEqual([
    'ok plus_change_log change-log.log',
    ...['Bare', 'Doubled', 'Fine', 'Off', 'Old', 'Public', 'Replica'].map((name) => `ok ${name} change-log.triggers`),
    'problem relay relay.not-running',
  ]);

  await database.query(DEFECTS);
  for (const sql of triggersUp({ table: 'other', primaryKey: ['id'] })) await database.query(sql);
  const found = await look();
  expect(found.map(brief)).toEqual([
    'ok plus_change_log change-log.log',
    'problem Bare change-log.trigger-missing',
    'warning Doubled change-log.trigger-left-over',
    'ok Fine change-log.triggers',
    'problem Off change-log.trigger-disabled',
    'problem Old change-log.trigger-version',
    'problem Public change-log.trigger-public',
    'problem Replica change-log.trigger-disabled',
    'warning other change-log.unneeded',
    'problem relay relay.not-running',
  ]);
  expect(found[4]!.remedy).toEqual([
    'alter table "public"."off" enable trigger "plus_v3_update";',
    'npx mikro-orm-plus evict Off',
  ]);
  expect(found[6]!.remedy).toEqual(['revoke all on function public.public_plus_v3_delete_fn() from public;']);

  await database.query('insert into fine (name) values ($1), ($2)', ['a', 'b']);
  await database.query("update fine set name = name || '!'");
  await database.query("update plus_change_log set created_at = created_at - interval '100 s'");
  const [waiting] = (await look()).filter(({ topic }) => topic === 'relay');
  expect(waiting).toMatchObject({ severity: 'problem', code: 'relay.not-running' });
  expect(waiting!.message).toMatch(/^nobody delivers the change log: 1 change waiting, the oldest for 1\d\d s$/);
  expect(waiting!.remedy).toContain('npx mikro-orm-plus relay');

  const elsewhere = await look({ LOG_SCHEMA: 'audit' });
  expect(brief(elsewhere[0]!)).toBe('problem plus_change_log change-log.log-elsewhere');

  // what one check may not see doesn't keep the others from being made
  await database.query(`create role "${reader}" login password 'reader'; grant usage on schema public to "${reader}"`);
  const { report } = await project.doctor({ ...env, DATABASE_URL: asReader() });
  expect(report.findings.map(brief)).toEqual(
    expect.arrayContaining([
      'ok Fine change-log.triggers',
      'problem doctor database.check-failed',
      'ok default stores.reachable',
    ]),
  );
  expect(report.findings.find(({ code }) => code === 'database.check-failed')!.message).toMatch(/permission denied/);

  await database.query('alter table plus_change_log drop column created_at');
  expect(brief((await look())[0]!)).toBe('problem plus_change_log change-log.log-columns');
});
