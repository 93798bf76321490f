import { setTimeout } from 'node:timers/promises';
import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, NonAtomicRepo, withRepo, type Progress } from '../../src/index.js';
import { createTestOrm } from '../harness/orm.js';

const properties = { id: p.integer().primary(), name: p.string().unique() };
const Atomic = withRepo(defineEntity({ name: 'Atomic', properties }), GetOrCreateRepo);
const Single = withRepo(defineEntity({ name: 'Single', properties }), NonAtomicRepo);

const names = (count: number): { name: string }[] =>
  Array.from({ length: count }, (_, index) => ({ name: `n${index}` }));

/** More than two insert statements carry. */
const MANY = 11_000;

describe('onProgress of getOrCreateMany', () => {
  it('tells how many lookups are answered, each number once, up to all', async () => {
    await using db = await createTestOrm({ entities: [Atomic] });
    const em = db.orm.em.fork();
    await em.getRepository(Atomic).getOrCreateMany(names(3));
    const told: Progress[] = [];
    const onProgress = (progress: Progress): void => void told.push(progress);
    await db.orm.em
      .fork()
      .getRepository(Atomic)
      .getOrCreateMany([...names(5), { name: 'n0' }], {}, { onProgress });
    expect(told).toEqual([
      { done: 3, total: 5 },
      { done: 5, total: 5 },
    ]);
    told.length = 0;
    await em.getRepository(Atomic).getOrCreateMany(names(3), {}, { onProgress });
    expect(told).toEqual([{ done: 3, total: 3 }]);
  });

  it('tells of each statement of a batch that one can not hold', async () => {
    await using db = await createTestOrm({ entities: [Atomic] });
    const told: Progress[] = [];
    const onProgress = (progress: Progress): void => void told.push(progress);
    await db.orm.em.fork().getRepository(Atomic).getOrCreateMany(names(MANY), {}, { onProgress });
    expect(told.map(({ done }) => done)).toEqual([5_000, 10_000, MANY]);
  });

  it.each(['signal', 'throw'] as const)('ends the batch by %s, and an atomic class stores nothing', async (way) => {
    await using db = await createTestOrm({ entities: [Atomic, Single] });
    const end = async (entity: typeof Atomic | typeof Single): Promise<number> => {
      const controller = new AbortController();
      const onProgress = (): void => {
        if (way === 'throw') throw new Error('enough');
        controller.abort(new Error('enough'));
      };
      const { signal } = controller;
      const em = db.orm.em.fork();
      const repository = em.getRepository(entity as typeof Atomic);
      await expect(repository.getOrCreateMany(names(MANY), {}, { onProgress, signal })).rejects.toThrow('enough');
      return db.orm.em.fork().count(entity as typeof Atomic);
    };
    await expect(end(Atomic)).resolves.toBe(0);
    // it opens no transaction of its own, so what was stored by then stays
    await expect(end(Single)).resolves.toBe(5_000);
  });

  it('leaves the EntityManager alone once the batch was ended', async () => {
    await using db = await createTestOrm({ entities: [Atomic] });
    await db.orm.em.execute(`insert into atomic (name) select 'n' || i from generate_series(0, ${MANY}) i`);
    const em = db.orm.em.fork();
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new Error('enough'));
    const { signal } = controller;
    const batch = em.getRepository(Atomic).getOrCreateMany(names(MANY), {}, { onProgress, signal });
    await expect(batch).rejects.toThrow('enough');
    em.clear();
    await setTimeout(50);
    expect([...em.getUnitOfWork().getIdentityMap()]).toEqual([]);
  });
});
