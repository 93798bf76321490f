import getPort from 'get-port';
import { checkServer } from '../../src/cli/doctor/stores.js';
import type { RedisServerReport } from '../../src/stores/redis/inspect.js';
import { RedisServers, type RedisNode } from '../harness/redis-topologies.js';
import { createDatabase } from '../harness/servers.js';
import { createCliProject, type CliProject, type DoctorJson, type JsonFinding } from './project.js';

const SECRET = 'Swordfish-77';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const keyed = (name: string) => withPlusRepo(defineEntity({ name, properties: { id: p.integer().primary(), name: p.string().unique() } }));
const User = withPlusRepo(defineEntity({ name: 'User', properties: { id: p.integer().primary(), name: p.string().unique(), profile: () => p.oneToOne(Profile).mappedBy('user') } } as never) as never);
const Profile = defineEntity({ name: 'Profile', properties: { id: p.integer().primary(), user: () => p.oneToOne(User) } } as never);
const stores = JSON.parse(process.env.STORES!) as Record<string, string>;

export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  connect: { connectionTimeoutMillis: 2_000 } as never,
  entities: [
    cacheRegion(keyed('InRedis'), { store: 'good' }),
    cacheRegion(keyed('InMemory'), {}),
    cacheRegion(keyed('Nowhere'), { store: 'nosuch' }),
    cacheRegion(keyed('InMemcached'), { store: 'memcached' }),
    cacheRegion(keyed('Careful'), { store: 'memcached', strategy: 'nonstrict-read-write' }),
    User, Profile,
  ] as never,
  subscribers: process.env.STORES === '{}' ? [] : [new PlusSubscriber({ stores, prefix: 'shop' })],
});`;

let servers: RedisServers;
let project: CliProject;
let env: Record<string, string>;
let code: number | null;
let report: DoctorJson;

const url = (node: RedisNode): string => `redis://${node.address}`;
const LIMITED = { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' };
const RIGHTS =
  'on >password resetchannels resetkeys ~shop* -@all +evalsha +eval +get +getex +set +del +time +info +scan +ping';

beforeAll(async () => {
  servers = await RedisServers.open();
  const good = await servers.add('good', LIMITED);
  await good.client.call('ACL', ['SETUSER', 'cache', ...RIGHTS.split(' ')]);
  const settings: Record<string, Record<string, string>> = {
    ttl: { ...LIMITED, 'maxmemory-policy': 'volatile-ttl' },
    random: { ...LIMITED, 'maxmemory-policy': 'allkeys-random' },
    full: { ...LIMITED, 'maxmemory-policy': 'noeviction' },
    unlimited: {},
    disk: { ...LIMITED, save: '3600 1', appendonly: 'yes' },
  };
  const stores: Record<string, string> = { good: url(good), account: url(good).replace('//', '//cache:password@') };
  for (const [name, each] of Object.entries(settings)) stores[name] = url(await servers.add(name, each));
  const closed = await servers.add('closed', LIMITED);
  await closed.client.config('SET', 'requirepass', 'another');
  stores.closed = url(closed).replace('//', `//:${SECRET}@`);
  const replica = await servers.add('replica', LIMITED);
  await replica.client.replicaof('127.0.0.1', good.port);
  stores.replica = url(replica);
  stores.down = `redis://:${SECRET}@127.0.0.1:${await getPort()}`;
  stores.memcached = `memcached://127.0.0.1:${await getPort()}`;
  env = { DATABASE_URL: await createDatabase('stores'), STORES: JSON.stringify(stores) };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
  ({ code, report } = await project.doctor(env));
});
afterAll(async () => {
  await project?.[Symbol.asyncDispose]();
  await servers?.[Symbol.asyncDispose]();
});

const ofTopic = (topic: string, subject: string): JsonFinding[] =>
  report.findings.filter((finding) => finding.topic === topic && finding.subject === subject);
const brief = ({ severity, code: of }: JsonFinding): string => `${severity} ${of}`;

describe('doctor says of a store that', () => {
  it.each<[state: string, store: string, findings: string[], message?: RegExp]>([
    ['it is well', 'good', ['ok stores.reachable'], /^(Redis|Valkey) \d+\.\d+.*allkeys-lru/],
    ['it is well, with the documented rights', 'account', ['ok stores.reachable']],
    ['it is in memory', 'default', ['ok stores.reachable'], /memory of each process/],
    ['its policy throws out soft locks', 'ttl', ['ok stores.reachable', 'problem stores.policy'], /volatile-ttl/],
    ['its policy is careless', 'random', ['ok stores.reachable', 'warning stores.policy'], /allkeys-random/],
    ['it refuses when it is full', 'full', ['ok stores.reachable', 'warning stores.policy'], /noeviction/],
    ['it has no limit', 'unlimited', ['ok stores.reachable', 'warning stores.no-limit'], /no maxmemory/],
    ['it writes to disk', 'disk', ['ok stores.reachable', 'warning stores.persistence'], /appendonly, save/],
    ['it is a replica', 'replica', ['ok stores.reachable', 'problem stores.replica'], /is a replica/],
    ['it is down', 'down', ['problem stores.unreachable'], /does not answer: the connection was refused, or lost$/],
    ['it refuses the password', 'closed', ['problem stores.unreachable'], /WRONGPASS|NOAUTH/],
    ['memcached is down', 'memcached', ['problem stores.unreachable']],
  ])('%s', (_, store, findings, message = /./) => {
    const found = ofTopic('stores', store);
    expect(found.map(brief)).toEqual(findings);
    expect(found.at(-1)!.message).toMatch(message);
    if (findings.some((finding) => !finding.startsWith('ok'))) expect(found.at(-1)!.remedy).not.toEqual([]);
  });

  const good: RedisServerReport = {
    product: 'Redis',
    version: '7.2.4',
    port: '6379',
    isPrimary: true,
    replicas: 0,
    usedMemoryBytes: 1,
    maxMemoryBytes: 2,
    policy: 'allkeys-lru',
    appendOnly: false,
    snapshots: false,
    clock: { offsetMs: 0, exactToMs: 1 },
  };

  it.each<[state: string, change: Partial<RedisServerReport>, findings: string[]]>([
    ['it is too old', { version: '6.0.16' }, ['problem stores.version']],
    ['it is just new enough', { version: '6.2.0' }, ['ok stores.reachable']],
    ['it is another product', { product: 'Valkey', version: '8.0.1' }, ['ok stores.reachable']],
    [
      'its clock is wrong',
      { clock: { offsetMs: -5_000, exactToMs: 3 } },
      ['ok stores.reachable', 'warning stores.clock'],
    ],
    ['its clock may be right', { clock: { offsetMs: 3_000, exactToMs: 2_500 } }, ['ok stores.reachable']],
    ['it does not tell everything', { policy: undefined, snapshots: undefined }, ['ok stores.reachable']],
  ])('%s', (_, change, findings) => {
    expect(checkServer('redis', { ...good, ...change }).map((each) => brief({ ...each, remedy: [] }))).toEqual(
      findings,
    );
  });
});

describe('doctor says of a region that', () => {
  it.each<[state: string, entity: string, finding: string, message: RegExp]>([
    ['it works', 'InRedis', 'ok regions.works', /^read-write, in the store 'good', rows live 3600 s$/],
    ['it is each process’s own', 'InMemory', 'warning regions.process-only', /each process has its own copy/],
    ['its store is unknown', 'Nowhere', 'problem regions.configuration', /no store 'nosuch'/],
    ['its strategy needs another store', 'InMemcached', 'problem regions.configuration', /has no soft locks/],
    ['its strategy fits', 'Careful', 'ok regions.works', /nonstrict-read-write/],
    ['it can’t be', 'User', 'warning regions.never-cached', /'profile' is the inverse side/],
  ])('%s', (_, entity, finding, message) => {
    const found = ofTopic('regions', entity);
    expect(found.map(brief)).toEqual([finding]);
    expect(found[0]!.message).toMatch(message);
  });
});

it('has exit code 1, and shows no password', () => {
  expect(code).toBe(1);
  expect(JSON.stringify(report)).not.toContain(SECRET);
  expect(JSON.stringify(report)).not.toContain('cache:password');
});

it('goes on when the database is down, and shows no password', async () => {
  const down = `postgresql://app:${SECRET}@127.0.0.1:${await getPort()}/shop`;
  const { code: exit, stdout, stderr } = await project.run(['doctor', '--json'], { ...env, DATABASE_URL: down });
  const { findings } = JSON.parse(stdout) as DoctorJson;
  expect(exit).toBe(1);
  expect(findings[0]).toMatchObject({ severity: 'problem', code: 'database.unreachable', subject: 'shop' });
  expect(findings.map(({ topic }) => topic)).toEqual(expect.arrayContaining(['regions', 'stores']));
  expect(stdout + stderr).not.toContain(SECRET);
});

it('misses a subscriber where entities have cached repositories', async () => {
  const { code: exit, report: without } = await project.doctor({ ...env, STORES: '{}' });
  expect(exit).toBe(1);
  expect(without.findings.filter(({ topic }) => topic === 'regions')).toMatchObject([
    { severity: 'problem', code: 'regions.no-subscriber' },
  ]);
});

it('prints for people, with colours only where they are wanted', async () => {
  const plain = await project.run(['doctor'], env);
  expect(plain.stdout).toMatch(/^Database\n {2}✔ \w+ {2}PostgreSQL \d+/);
  expect(plain.stdout).toContain(
    '  ✖ ttl  maxmemory-policy is volatile-ttl, which throws out soft locks first: readers may see old rows\n' +
      '      redis-cli CONFIG SET maxmemory-policy allkeys-lru\n',
  );
  expect(plain.stdout).toMatch(/\n\d+ problems, \d+ warnings, \d+ fine\n$/);
  expect(plain.stdout).not.toContain('\u001B');
  expect(plain.code).toBe(1);
  const coloured = await project.run(['doctor'], { ...env, FORCE_COLOR: '1' });
  expect(coloured.stdout).toContain('\u001B[31m✖');
});
