import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { startProcesses } from '../harness/processes.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';
import { Tag } from './support/entities.js';
import type service from './support/service.worker.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const SOFT_LOCK_MS = 6_000;

describe('processes that share a database and Redis', () => {
  let database: TestOrm;
  const worker = new URL('./support/service.worker.ts', import.meta.url);
  const init = (name: string) => ({
    url: database.url,
    redisUrl: testRedisUrl(),
    prefix: `${testPrefix()}${name}`,
    softLockMs: SOFT_LOCK_MS,
  });

  beforeAll(async () => {
    database = await createTestOrm({ entities: [Tag] });
  });

  afterAll(async () => {
    await database.orm.close();
    await database.close();
  });

  it('answer from the cache what another has created, and from the database what another has changed', async () => {
    await using group = await startProcesses<typeof service>(worker, { count: 3, init: init('shared') });
    const created = await group.round(() => ({ name: 'orm' }));
    expect(created.filter((result) => result.created)).toHaveLength(1);
    const cached = await group.round(() => ({ name: 'orm' }));
    for (const weight of [2, 3, 4]) {
      await group.round((index) => (index === weight % 3 ? { name: 'orm', weight } : { name: 'other' }));
      const first = await group.round(() => ({ name: 'orm' }));
      const second = await group.round(() => ({ name: 'orm' }));
      expect(first.map((result) => result.weight)).toEqual([weight, weight, weight]);
      expect(second.map((result) => result.statements)).toEqual([0, 0, 0]);
      expect(second.map((result) => result.weight)).toEqual([weight, weight, weight]);
      expect(second.flatMap(({ unhandled }) => unhandled)).toEqual([]);
    }
    expect(cached.map(({ weight }) => weight)).toEqual([1, 1, 1]);
  });

  it('never see the old row of one that died between its commit and its release', async () => {
    await using group = await startProcesses<typeof service>(worker, { count: 2, init: init('dying') });
    await group.round(() => ({ name: 'mourned' }));
    await group.round(() => ({ name: 'mourned' }));
    const startedAt = Date.now();
    const [died] = await group.settle((index) =>
      index === 0 ? { name: 'mourned', weight: 2, dies: true } : { name: 'mourned' },
    );
    expect(died!.status).toBe('rejected');
    const lookup = async () => {
      const [, survivor] = await group.settle(() => ({ name: 'mourned' }));
      if (survivor!.status === 'rejected') throw survivor!.reason;
      return survivor!.value;
    };
    for (let round = 0; round < 20; round++) {
      const { weight, statements } = await lookup();
      expect(weight).toBe(2);
      // the lock is younger than the round that took it
      if (Date.now() < startedAt + SOFT_LOCK_MS) expect(statements).toBe(1);
    }
    await sleep(SOFT_LOCK_MS);
    await lookup();
    expect(await lookup()).toMatchObject({ weight: 2, statements: 0 });
  });

  it('end by themselves when their ORM is closed', async () => {
    const program = fileURLToPath(new URL('./support/leaves.fixture.ts', import.meta.url));
    const args = [...typescriptArgs, program, database.url, testRedisUrl()];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 55_000 });
    expect(stdout).toBe('closed 1\n');
  });
});
