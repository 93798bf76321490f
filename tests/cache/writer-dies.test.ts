import type { EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster, storeKinds } from './support/cluster.js';
import { Tag } from './support/entities.js';

const SOFT_LOCK_MS = 4_000;
const LEASE_MS = 300;

const get = (name: string) => async (em: EntityManager) =>
  (await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 }))[0];

/** A process that dies after its COMMIT tells the store nothing any more; its locks stay. */
describe.each(storeKinds)('a writer that dies between lock and release, over %s', (kind) => {
  const regions = { softLockTtl: SOFT_LOCK_MS, leaseTtl: LEASE_MS };

  it('leaves a bypass until its lock runs out, and never a stale row', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], regions });
    const [dying, other] = cluster.services;
    await other.watch(get('x'));
    await other.watch(get('y'));

    const startedAt = Date.now();
    const locking = dying.store.pauseNext('lockMany', { when: 'after' });
    const committed = dying.em().transactional(async (em) => {
      await em.getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 });
    });
    await locking.reached;
    const lockedAt = Date.now();
    // this reader selects the old row, and is suspended until the lock is gone
    const filling = other.store.pauseNext('fillMany');
    const suspended = other.watch(get('x'));
    await filling.reached;
    dying.store.hang('releaseMany', 'evictMany', 'ping', 'clear');
    locking.open();

    // the dead writer's COMMIT is acknowledged to nobody; wait until it can be seen
    while ((await dying.em().findOneOrFail(Tag, { name: 'x' })).weight === 1) await sleep(5);
    for (let round = 0; round < 20; round++) {
      const { result, sql } = await other.watch(get('x'));
      expect(result.weight).toBe(2);
      // the lock is younger than the transaction
      if (Date.now() < startedAt + SOFT_LOCK_MS) expect(sql).toHaveLength(1);
      expect((await other.watch(get('y'))).sql).toEqual([]);
    }
    await sleep(lockedAt + SOFT_LOCK_MS + 50 - Date.now());
    filling.open();
    expect((await suspended).result.weight).toBe(1);
    expect((await other.watch(get('x'))).result.weight).toBe(2);
    const again = await other.watch(get('x'));
    expect(again.result.weight).toBe(2);
    expect(again.sql).toEqual([]);
    dying.store.heal();
    await committed;
  });

  it('lets the next writer release the row, and keeps bypassing the others', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], regions });
    const [dying, other] = cluster.services;
    for (const name of ['x', 'y']) await other.watch(get(name));
    dying.store.hang('releaseMany', 'evictMany', 'ping', 'clear');
    const dead = dying.em().transactional(async (em) => {
      await em
        .getRepository(Tag)
        .updateOrCreateMany(['x', 'y'].map((name) => ({ where: { name }, values: { weight: 2 } })));
    });
    while ((await dying.em().findOneOrFail(Tag, { name: 'x' })).weight === 1) await sleep(5);

    await other.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 3 });
    for (let round = 0; round < 3; round++) {
      expect((await other.watch(get('x'))).result.weight).toBe(3);
      const y = await other.watch(get('y'));
      expect(y.result.weight).toBe(2);
      expect(y.sql).toHaveLength(1);
    }
    await sleep(SOFT_LOCK_MS);
    for (const [name, weight] of Object.entries({ x: 3, y: 2 })) {
      await other.watch(get(name));
      const { result, sql } = await other.watch(get(name));
      expect(result.weight).toBe(weight);
      expect(sql).toEqual([]);
    }
    dying.store.heal();
    await dead;
  });

  it('leaves a bypass in a nonstrict region too, if the store got the lock that is sent with COMMIT', async () => {
    const nonstrict = { ...regions, strategy: 'nonstrict-read-write' } as const;
    await using cluster = await startCluster(kind, { entities: [Tag], regions: nonstrict });
    const [dying, other] = cluster.services;
    await other.watch(get('x'));
    expect((await other.watch(get('x'))).sql).toEqual([]);
    dying.store.hang('releaseMany', 'evictMany', 'ping', 'clear');
    const dead = dying.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 });
    while ((await dying.em().findOneOrFail(Tag, { name: 'x' })).weight === 1) await sleep(5);
    // COMMIT and the lock are under way at the same time
    while ((await other.watch(get('x'))).result.weight === 1) await sleep(5);
    // the lock runs out in the end
    while ((await other.watch(get('x'))).sql.length > 0) await sleep(20);
    expect((await other.watch(get('x'))).result.weight).toBe(2);
    dying.store.heal();
    await dead;
  });
});

describe.each(storeKinds)('a commit in a nonstrict region, over %s', (kind) => {
  const regions = { strategy: 'nonstrict-read-write' } as const;
  const weightIn = async (em: EntityManager) => (await em.findOneOrFail(Tag, { name: 'x' })).weight;

  it('does not wait for its lock, and releases it only when it is there', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], regions });
    const [one, other] = cluster.services;
    await other.watch(get('x'));
    const locking = one.store.pauseNext('lockMany');
    one.store.takeCalls();
    const written = one.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 });
    await locking.reached;
    while ((await weightIn(other.em())) === 1) await sleep(5);
    expect(one.store.takeCalls()).not.toContain('releaseMany');
    locking.open();
    await written;
    for (const service of [one, other]) expect((await service.watch(get('x'))).result.weight).toBe(2);
    expect((await other.watch(get('x'))).sql).toEqual([]);
  });

  it('writes no row through under a lock that may have come after a later commit', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], regions });
    const [one, other] = cluster.services;
    await other.watch(get('x'));
    const locking = one.store.pauseNext('lockMany');
    const first = one.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 });
    while ((await weightIn(other.em())) === 1) await sleep(5);
    await other.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 3 });
    locking.open();
    await first;
    for (const service of [one, other, one]) expect((await service.watch(get('x'))).result.weight).toBe(3);
  });
});
