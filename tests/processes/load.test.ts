import { Redis } from 'ioredis';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rawClient, startServers, type RunningServers } from '../harness/servers.js';
import { Item, type LoadReport } from './load.entity.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const CALLERS = 64;
/** `LOAD_SECONDS=1800 npm test -- load` is the long run; CI has one of 60 s beside this. */
const SECONDS = Number(process.env['LOAD_SECONDS'] ?? 12);
const POOL = 10;
/** A pool or a connection that nobody closes would keep it for ever. */
const EXIT_MS = 45_000;

let db: TestOrm;
let servers: RunningServers;
const reports: LoadReport[] = [];
let connectionsUnderLoad: { postgres: number; redis: number };
let connectionsAfter: { postgres: number; redis: number };
let endedByItself = false;

async function connections(redis: Redis): Promise<{ postgres: number; redis: number }> {
  const client = await rawClient(db.url);
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = 'load'`,
  );
  await client.end();
  const list = (await redis.client('LIST')) as string;
  return {
    postgres: rows[0]!.count,
    redis: list.split('\n').filter((line) => /name=mikro-orm-plus/.test(line)).length,
  };
}

beforeAll(
  async () => {
    db = await createTestOrm({ entities: [Item] });
    servers = await startServers({ redis: true });
    const redis = new Redis(servers.redis!.url);
    const url = new URL(db.url);
    const child = spawn(
      process.execPath,
      [
        '--expose-gc',
        ...typescriptArgs,
        fileURLToPath(new URL('./load.worker.ts', import.meta.url)),
        url.href,
        servers.redis!.url,
        String(CALLERS),
        String(SECONDS),
      ],
      { env: { ...process.env, PGAPPNAME: 'load' }, stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const exited = once(child, 'exit');
    const busy = Promise.withResolvers<void>();
    createInterface({ input: child.stdout }).on('line', (line) => {
      const report = JSON.parse(line) as LoadReport;
      reports.push(report);
      if (report.kind === 'busy-over') busy.resolve();
    });
    await Promise.race([busy.promise, exited]);
    connectionsUnderLoad = await connections(redis);
    child.stdin.end('go on\n');
    const timer = setTimeout(() => child.kill('SIGKILL'), EXIT_MS);
    const [code] = (await exited) as [number | null];
    clearTimeout(timer);
    endedByItself = code === 0;
    connectionsAfter = await connections(redis);
    redis.disconnect();
  },
  SECONDS * 1_000 + 180_000,
);
afterAll(() => servers.stop());

describe(`${CALLERS} concurrent callers for ${SECONDS} s`, () => {
  const ofKind = <K extends LoadReport['kind']>(kind: K): Extract<LoadReport, { kind: K }>[] =>
    reports.filter((report): report is Extract<LoadReport, { kind: K }> => report.kind === kind);

  it('all get their answers', () => {
    const [closed] = ofKind('closed');
    expect(closed?.errors).toEqual({});
    expect(closed?.calls).toBeGreaterThan(CALLERS * 5);
    expect(closed?.statistics.storeFailures).toBe(0);
  });

  it('leave no rejection unhandled, and no warning', () => {
    expect(ofKind('unhandled')).toEqual([]);
  });

  it('leave the memory of the process flat', () => {
    const heaps = ofKind('sample').map(({ heapUsed }) => heapUsed);
    expect(heaps.length).toBeGreaterThanOrEqual(6);
    // the first third warms up: compiled code, the pool, the rows of the identity maps under way
    const third = Math.floor(heaps.length / 3);
    const lowest = (part: number[]): number => Math.min(...part);
    const growth = lowest(heaps.slice(-third)) - lowest(heaps.slice(third, 2 * third));
    expect(growth).toBeLessThan(4_000_000);
  });

  it('use no more connections than the pool has, and one to Redis', () => {
    expect(connectionsUnderLoad.postgres).toBeLessThanOrEqual(POOL);
    expect(connectionsUnderLoad.redis).toBe(1);
  });

  it('end with the process, by itself, as soon as the ORM is closed', () => {
    expect(endedByItself).toBe(true);
    expect(connectionsAfter).toEqual({ postgres: 0, redis: 0 });
  });
});
