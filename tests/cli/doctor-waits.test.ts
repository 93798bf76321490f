import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Client } from 'pg';
import { createDatabase, rawClient, testPrefix, testRedisUrl } from '../harness/servers.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { createCliProject, type CliProject, type JsonFinding } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';
import { withChangeLog } from 'mikro-orm-plus/migrations';

const keyed = (name: string, more: object = {}) => withPlusRepo(defineEntity({
  name,
  properties: { id: p.integer().primary(), name: p.string(), deletedAt: p.datetime().nullable() },
  uniques: [{ properties: ['name'], ...more }],
} as never) as never);

export default withChangeLog(defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [keyed('Before'), keyed('Held', { where: '"deleted_at" is null' }), keyed('Later')] as never,
  subscribers: [new PlusSubscriber({ stores: { default: process.env.REDIS_URL! }, prefix: process.env.PREFIX! })],
}));`;

let project: CliProject;
let url: string;
let env: Record<string, string>;
let database: Client;

beforeAll(async () => {
  url = await createDatabase('waits');
  env = { DATABASE_URL: url, REDIS_URL: testRedisUrl(), PREFIX: `${testPrefix()}waits` };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
  await project.mikroOrm(['schema:create', '--run'], env);
  database = await rawClient(url);
});
afterAll(async () => {
  await database?.end();
  await project?.[Symbol.asyncDispose]();
});

const brief = (findings: JsonFinding[], topic: string): string[] =>
  findings.filter((finding) => finding.topic === topic).map(({ code, subject }) => `${code} ${subject}`);

it('goes on past tables that somebody has locked, says so with a remedy, and leaves nothing waiting', async () => {
  await database.query('begin; lock table held, plus_change_log in access exclusive mode');
  try {
    const { code, report } = await project.doctor(env);
    expect(code).toBe(1);
    expect(brief(report.findings, 'natural-keys')).toEqual([
      'natural-keys.present Before(id)',
      'natural-keys.present Before(name)',
      'natural-keys.no-answer Held',
      'natural-keys.present Later(id)',
      'natural-keys.present Later(name)',
    ]);
    expect(brief(report.findings, 'database')).toEqual([
      expect.stringMatching(/^database\.reachable/),
      'database.no-answer doctor',
    ]);
    expect(brief(report.findings, 'stores')[0]).toBe('stores.reachable default');
    const [late] = report.findings.filter((finding) => finding.code === 'natural-keys.no-answer');
    expect(late).toMatchObject({
      severity: 'problem',
      message: 'no answer within 10 s about the indexes of "public"."held"',
    });
    const { rows } = await database.query(late!.remedy.find((line) => !line.startsWith('--'))!);
    expect(rows).toContainEqual(expect.objectContaining({ state: 'active', 'waits for': [] }));
    const waiting = await database.query(
      `select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    expect(waiting.rows).toEqual([]);
  } finally {
    await database.query('rollback');
  }
  expect((await project.doctor(env)).report.findings.filter(({ code }) => code.endsWith('no-answer'))).toEqual([]);
});

it('ends when the database answers no more, and has looked at what needs none', async () => {
  await using proxy = await TcpProxy.start(url);
  proxy.onClientData = (chunk) => {
    if (chunk.includes('pg_index')) proxy.set({ kind: 'held' });
  };
  const { code, report } = await project.doctor({ ...env, DATABASE_URL: proxy.through(url) });
  expect(code).toBe(1);
  expect(brief(report.findings, 'database')).toEqual([
    expect.stringMatching(/^database\.reachable/),
    'database.no-answer doctor',
    'database.no-answer doctor',
    'database.no-answer doctor',
  ]);
  expect(brief(report.findings, 'stores')[0]).toBe('stores.reachable default');
  expect(brief(report.findings, 'regions')).toHaveLength(3);
});

it('ends when database and store take connections but never say a word', async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  try {
    const hanging = { DATABASE_URL: `postgresql://app@127.0.0.1:${port}/shop`, REDIS_URL: `redis://127.0.0.1:${port}` };
    const { code, report } = await project.doctor({ ...env, ...hanging });
    expect(code).toBe(1);
    expect(report.findings.filter(({ topic }) => topic === 'database')).toMatchObject([
      { code: 'database.unreachable', message: 'does not answer: no answer within 10 s' },
    ]);
    expect(brief(report.findings, 'stores')).toEqual(['stores.unreachable default']);
  } finally {
    await closeAll(silent, sockets);
  }
});

async function closeAll(server: Server, sockets: Set<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  server.close();
  await once(server, 'close');
}
