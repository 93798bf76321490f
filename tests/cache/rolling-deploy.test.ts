import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { startProcesses, type ProcessGroup } from '../harness/processes.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';
import type service from './support/version.worker.js';
import type { VersionResult, VersionTask } from './support/version.worker.js';
import { versions, type Change } from './support/versions.js';

const ROUNDS = 30;
const OLD = 0;
const NEW = 1;
type Group = ProcessGroup<VersionTask, VersionResult>;
const worker = new URL('./support/version.worker.ts', import.meta.url);

describe.each(Object.keys(versions) as Change[])('while %s, two processes of two versions over one Redis', (change) => {
  const { old, migration } = versions[change];
  /** What only the new version can write. */
  const news: (round: number) => Record<string, unknown> =
    change === 'a column was added' ? (round) => ({ note: `note ${round}` }) : (round) => ({ weight: round + 0.5 });
  let database: TestOrm;
  let group: Group;
  const row = async (name: string): Promise<Record<string, unknown>> =>
    (await database.orm.em.execute<Record<string, unknown>[]>('select * from tag where name = ?', [name]))[0]!;
  const only = async (index: number, task: VersionTask) =>
    (await group.round((asked) => (asked === index ? task : { name: task.name, reads: 0 })))[index]!;

  beforeAll(async () => {
    database = await createTestOrm({ entities: [old] });
    const init = { url: database.url, redisUrl: testRedisUrl(), prefix: `${testPrefix()}${change}`, change };
    group = await startProcesses<typeof service>(worker, { count: 2, init });
    // before the migration, only the old version is asked
    expect((await only(OLD, { name: 'kept', reads: 2 })).sent).toEqual([2, 0]);
    await database.orm.em.execute(migration);
  });
  afterAll(async () => {
    await group.close();
    await database.close();
  });

  it('don’t read each other’s rows', async () => {
    // the new one has everything that the row has, and then a row of its own in the cache
    const first = await only(NEW, { name: 'kept', reads: 2 });
    expect(first.sent).toEqual([1, 0]);
    expect(first.rows).toEqual([await row('kept'), await row('kept')]);
    // and the old one is none the worse for it
    const second = await only(OLD, { name: 'kept', reads: 2 });
    expect(second.sent).toEqual([1, 0]);
    expect(second.rows[1]).toEqual({ id: (await row('kept')).id, name: 'kept', weight: 0 });
  });

  it.each(['flush', 'updateOrCreate'] as const)('see each other’s writes by %s at once', async (by) => {
    await group.round(() => ({ name: by, reads: 3 }));
    for (let round = 0; round < ROUNDS; round++) {
      const writer = round % 2;
      const write = writer === OLD ? { weight: round } : news(round);
      await group.round((index) => (index === writer ? { name: by, write, by } : { name: by, reads: 3 }));
      const [ofOld, ofNew] = await group.round(() => ({ name: by, reads: 2 }));
      const { id, name, weight, ...rest } = await row(by);
      expect(writer === OLD ? weight : { weight, ...rest }).toEqual(
        writer === OLD ? round : { weight, ...rest, ...news(round) },
      );
      expect(ofOld!.rows).toEqual([1, 2].map(() => ({ id, name, weight })));
      expect(ofNew!.rows).toEqual([1, 2].map(() => ({ id, name, weight, ...rest })));
      expect([ofOld!.unhandled, ofNew!.unhandled]).toEqual([[], []]);
      expect([ofOld!.failures, ofNew!.failures]).toEqual([0, 0]);
    }
  });

  it('write at one time, and neither loses what only the other one has', async () => {
    await group.round(() => ({ name: 'both', reads: 3 }));
    for (let round = 1; round <= ROUNDS; round++) {
      await group.round((index) => ({
        name: 'both',
        write: index === OLD ? { weight: round } : news(round),
        reads: 2,
      }));
      const [ofOld, ofNew] = await group.round(() => ({ name: 'both' }));
      const { id, name, weight, ...rest } = await row('both');
      expect(ofOld!.rows).toEqual([{ id, name, weight }]);
      expect(ofNew!.rows).toEqual([{ id, name, weight, ...rest }]);
      if (change === 'a column was added') expect({ weight, ...rest }).toEqual({ weight: round, ...news(round) });
      else expect([round, round + 0.5]).toContain(weight);
    }
  });
});
