import { MemcacheNode } from 'memcache';
import { checkServer } from '../../src/cli/doctor/memcached.js';
import type { MemcachedServerReport } from '../../src/stores/memcached/inspect.js';
import {
  startRedisCluster,
  startSentinel,
  type RedisCluster,
  type SentinelSetup,
} from '../harness/redis-topologies.js';
import { createDatabase, startServers, type RunningServers } from '../harness/servers.js';
import { createCliProject, type CliProject, type DoctorJson } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const tag = defineEntity({ name: 'Tag', properties: { id: p.integer().primary(), name: p.string().unique() } });
export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [cacheRegion(withPlusRepo(tag), { store: 'cluster' })],
  subscribers: [new PlusSubscriber({ stores: JSON.parse(process.env.STORES!), prefix: 'shop' })],
});`;

let cluster: RedisCluster;
let sentinel: SentinelSetup;
let memcached: RunningServers[];
let project: CliProject;
let env: Record<string, string>;

beforeAll(async () => {
  cluster = await startRedisCluster({ replicas: true });
  sentinel = await startSentinel();
  const small = { memcached: { megabytes: 2 } };
  memcached = [await startServers(small), await startServers(small), await startServers(small)];
  const [alone, ...pair] = memcached.map((servers) => servers.memcached!.url);
  const stores = {
    cluster: cluster.url,
    sentinel: sentinel.url,
    alone: alone!,
    pair: pair.map((url, index) => (index === 0 ? url : url.replace('memcached://', ''))).join(','),
    memory: 'memory://',
  };
  env = { DATABASE_URL: await createDatabase('topologies'), STORES: JSON.stringify(stores) };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
  await project.mikroOrm(['schema:create', '--run'], env);
});

afterAll(async () => {
  await project?.[Symbol.asyncDispose]();
  for (const servers of memcached ?? []) await servers.stop();
  await sentinel?.servers[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

const portOf = (servers: RunningServers): string => new URL(servers.memcached!.url).port;

/** Of one store: subjects, codes and messages of what was found. */
function ofStore(report: DoctorJson, alias: string): { subject: string; code: string; message: string }[] {
  return report.findings
    .filter(({ topic, subject }) => topic === 'stores' && (subject === alias || subject.startsWith(`${alias}:`)))
    .map(({ subject, code, message }) => ({ subject, code, message }));
}

const reachable = (subject: string, message: RegExp) => ({
  subject,
  code: 'stores.reachable',
  message: expect.stringMatching(message) as string,
});
const noLimit = (subject: string) => ({
  subject,
  code: 'stores.no-limit',
  message: expect.stringMatching(/no maxmemory/) as string,
});

it('looks at each primary of a cluster, at the primary behind Sentinel, at memcached, and at memory', async () => {
  await makeEvictions(memcached[0]!);
  const { code, report } = await project.doctor(env);
  const each = cluster.primaries.flatMap(({ port }) => {
    const subject = `cluster:${port}`;
    return [reachable(subject, /^(Redis|Valkey) \d.*noeviction, 1 replica, clock/), noLimit(subject)];
  });
  const inCluster = ofStore(report, 'cluster');
  expect(inCluster).toHaveLength(6);
  expect(inCluster).toEqual(expect.arrayContaining(each));
  expect(ofStore(report, 'sentinel')).toEqual([
    reachable('sentinel', /^(Redis|Valkey) \d.*noeviction, 2 replicas, clock/),
    noLimit('sentinel'),
  ]);
  expect(ofStore(report, 'alone')).toEqual([
    reachable('alone', /^memcached 1\.\d.* of 2\.0 MB used, [1-9][\d,]* evictions? since its start$/),
  ]);
  expect(ofStore(report, 'pair')).toEqual(
    memcached
      .slice(1)
      .map((servers) =>
        reachable(`pair:127.0.0.1:${portOf(servers)}`, /^memcached 1\..*, 0 evictions since its start$/),
      ),
  );
  expect(ofStore(report, 'memory')).toEqual([reachable('memory', /^is in the memory of each process$/)]);
  expect([code, report.problems]).toEqual([0, 0]);
});

it('says which memcached is down, and goes on to the end when a node, a primary or Sentinel is', async () => {
  process.kill(memcached[2]!.memcached!.pid, 'SIGKILL');
  process.kill(memcached[0]!.memcached!.pid, 'SIGSTOP');
  for (const node of sentinel.sentinels) node.signal('SIGKILL');
  // its replica takes over
  cluster.primaries[0]!.signal('SIGKILL');
  try {
    const { code, report } = await project.doctor(env);
    expect(code).toBe(1);
    expect(ofStore(report, 'pair')).toEqual([
      reachable(`pair:127.0.0.1:${portOf(memcached[1]!)}`, /^memcached/),
      {
        subject: `pair:127.0.0.1:${portOf(memcached[2]!)}`,
        code: 'stores.unreachable',
        message: expect.stringMatching(/^does not answer: /),
      },
    ]);
    expect(ofStore(report, 'alone')).toMatchObject([{ code: 'stores.unreachable' }]);
    expect(ofStore(report, 'sentinel')).toMatchObject([{ code: 'stores.unreachable' }]);
    const codes = new Set(ofStore(report, 'cluster').map((finding) => finding.code));
    expect(['stores.unreachable', 'stores.reachable']).toContain([...codes][0]);
    expect(report.findings.filter(({ topic }) => topic === 'natural-keys')).toMatchObject([
      { severity: 'ok' },
      { severity: 'ok' },
    ]);
  } finally {
    process.kill(memcached[0]!.memcached!.pid, 'SIGCONT');
  }
});

describe('of a memcached server it says that', () => {
  const report: MemcachedServerReport = {
    version: '1.6.18',
    usedMemoryBytes: 1,
    maxMemoryBytes: 2 ** 26,
    evictions: 1,
    clock: { offsetMs: -700, exactToMs: 1_001 },
  };

  it.each<[state: string, report: MemcachedServerReport | undefined, codes: string[]]>([
    ['it is well', report, ['stores.reachable']],
    ['it is too old', { ...report, version: '1.5.22' }, ['stores.version']],
    [
      'its clock is wrong',
      { ...report, clock: { offsetMs: 2_500, exactToMs: 1_001 } },
      ['stores.reachable', 'stores.clock'],
    ],
    ['it answers, when its connection cannot ask for more', undefined, ['stores.reachable']],
  ])('%s', (_, of, codes) => {
    expect(checkServer('cache', of).map(({ code }) => code)).toEqual(codes);
  });
});

/** Stores more than the server has room for. */
async function makeEvictions(servers: RunningServers): Promise<void> {
  const node = new MemcacheNode('127.0.0.1', Number(portOf(servers)));
  await node.connect();
  for (let index = 0; index < 1_000; index += 1) await node.command(`set k${index} 0 0 10000\r\n${'x'.repeat(10_000)}`);
  await node.disconnect();
}
