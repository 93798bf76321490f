import type { EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../harness/until.js';
import { startCluster, storeKinds, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

const get = (name: string) => async (em: EntityManager) =>
  (await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 }))[0];

/** An EntityManager with an unflushed change of a row that is cached. */
async function changed(service: Service): Promise<EntityManager> {
  for (let round = 0; round < 3; round += 1) await service.watch(get('x'));
  const em = service.em();
  (await get('x')(em)).weight = 2;
  service.statements.take();
  service.store.takeCalls();
  return em;
}

/** On a busy machine a lock may be old by the commit, and be asked for again. */
const distinct = (calls: readonly string[]): string[] => [...new Set(calls)];

const weightOf = async (em: EntityManager): Promise<number> => (await em.findOneOrFail(Tag, { name: 'x' })).weight;

describe.each(storeKinds)('the soft lock of a flush, over %s', (kind) => {
  it('goes along with the flush’s statement, and COMMIT waits until it is confirmed', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const em = await changed(one);
    const locking = one.store.pauseNext('lockMany', { when: 'after' });
    const flushed = em.flush();
    await locking.reached;
    const statements: string[] = [];
    await until(() => statements.push(...one.statements.take()) > 0 && /update/.test(statements.at(-1)!));
    expect(await weightOf(other.em())).toBe(1);
    expect(statements).not.toContain('commit');
    locking.open();
    await flushed;
    expect(await weightOf(other.em())).toBe(2);
    expect(distinct(one.store.takeCalls())).toEqual(['lockMany', 'releaseMany']);
  });

  it('is asked for again when the statement had to wait', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const em = await changed(one);
    const blocking = other.em();
    await blocking.begin();
    await blocking.execute(`select 1 from tag where name = 'x' for update`);
    const locking = one.store.pauseNext('lockMany', { when: 'after' });
    const flushed = em.flush();
    await locking.reached;
    locking.open();
    await sleep(1_200);
    await blocking.rollback();
    await flushed;
    expect(one.store.takeCalls()).toEqual(['lockMany', 'lockMany', 'releaseMany']);
    expect((await other.watch(get('x'))).result.weight).toBe(2);
  });

  it('is taken back when the flush fails', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    await one.watch(get('y'));
    const em = await changed(one);
    (await get('x')(em)).name = 'y';
    await expect(em.flush()).rejects.toMatchObject({ code: '23505' });
    expect(one.store.takeCalls()).toContain('releaseMany');
    await other.watch(get('x'));
    const { result, sql } = await other.watch(get('x'));
    expect([result.weight, sql]).toEqual([1, []]);
  });

  it('waits for the commit in a transaction of the caller’s, which may take its time', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const em = await changed(one);
    await em.begin();
    await em.flush();
    expect(one.store.takeCalls()).toEqual([]);
    expect((await other.watch(get('x'))).sql).toEqual([]);
    await em.commit();
    expect(one.store.takeCalls()).toEqual(['lockMany', 'releaseMany']);
  });

  it('is one for all rows of a flush', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one] = cluster.services;
    for (const name of ['y', 'z']) await one.watch(get(name));
    const em = await changed(one);
    for (const name of ['y', 'z']) (await get(name)(em)).weight = 3;
    one.store.takeCalls();
    await em.flush();
    const calls = one.store.takeCalls();
    expect(distinct(calls)).toEqual(['lockMany', 'releaseMany']);
    expect(one.plus.statistics().softLocks).toBe(3 * (calls.length - 1));
  });
});
