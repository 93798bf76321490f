import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive } from './is-alive.js';
import { createTestOrm } from './orm.js';
import { startProcesses } from './processes.js';
import { Note } from './fixtures/insert.worker.js';
import type insertWorker from './fixtures/insert.worker.js';

const file = new URL('./fixtures/insert.worker.ts', import.meta.url);

describe('a group of processes', () => {
  it('begins every round at the same instant, and works on one database', async () => {
    await using testOrm = await createTestOrm({ entities: [Note] });
    await using group = await startProcesses<typeof insertWorker>(file, { count: 4, init: { url: testOrm.url } });
    expect(new Set(group.pids).size).toBe(4);

    const spreads: number[] = [];
    for (const round of [1, 2, 3, 4, 5]) {
      const outputs = await group.round((index) => ({ text: `${round}/${index}` }));
      expect(outputs.map(({ pid }) => pid)).toEqual(group.pids);
      expect(outputs[0]!.writtenAt).toEqual(new Date(outputs[0]!.startedAtMs));
      const starts = outputs.map(({ startedAtMs }) => startedAtMs);
      spreads.push(Math.max(...starts) - Math.min(...starts));
    }
    await expect(testOrm.orm.em.fork().count(Note)).resolves.toBe(20);
    // The best round: with more processes than processors some may have to wait for their turn.
    expect(Math.min(...spreads)).toBeLessThanOrEqual(20);
  });

  it('hands on the errors of its members, and outlives their death', async () => {
    await using testOrm = await createTestOrm({ entities: [Note] });
    await using group = await startProcesses<typeof insertWorker>(file, { count: 3, init: { url: testOrm.url } });

    const [fine, thrown, dead] = await group.settle((index) => ({
      text: 'x',
      failure: ([undefined, 'throw', 'die'] as const)[index],
    }));
    expect(fine).toMatchObject({ status: 'fulfilled', value: { pid: group.pids[0] } });
    expect(thrown).toMatchObject({ status: 'rejected', reason: { name: 'RangeError', message: 'told to fail: 1' } });
    expect(dead).toMatchObject({ status: 'rejected', reason: { message: expect.stringContaining('SIGKILL') } });
    await expect(group.round(() => ({ text: 'y' }))).rejects.toThrow('SIGKILL');
  });

  it('leaves no process behind', async () => {
    await using testOrm = await createTestOrm({ entities: [Note] });
    const group = await startProcesses<typeof insertWorker>(file, { count: 2, init: { url: testOrm.url } });
    expect(group.pids.map(isAlive)).toEqual([true, true]);
    await group.close();
    await sleep(50);
    expect(group.pids.map(isAlive)).toEqual([false, false]);
  });

  it('does not start if one of its members cannot', async () => {
    const unreachable = 'postgresql://postgres@127.0.0.1:1/nothing';
    const group = startProcesses<typeof insertWorker>(new URL('./fixtures/missing.worker.ts', import.meta.url), {
      count: 2,
      init: { url: unreachable },
    });
    await expect(group).rejects.toThrow('missing.worker.ts');
  });
});
