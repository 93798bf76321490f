import type { EntityManager } from '@mikro-orm/postgresql';
import { startCluster } from './support/cluster.js';
import { Tag } from './support/entities.js';

const get = (name: string) => async (em: EntityManager) =>
  (await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 }))[0];

describe('a process that remembers where a lookup led, over Redis', () => {
  it('asks the store for the row alone', async () => {
    await using cluster = await startCluster('redis', { entities: [Tag] });
    const [one] = cluster.services;
    for (let round = 0; round < 3; round += 1) await one.watch(get('x'));
    one.store.takeCalls();
    const { sql } = await one.watch(get('x'));
    expect([sql, one.store.takeCalls()]).toEqual([[], ['readMany']]);
  });

  it('finds the new row of the name when its own was renamed elsewhere, and remembers that one', async () => {
    await using cluster = await startCluster('redis', { entities: [Tag] });
    const [one, other] = cluster.services;
    for (let round = 0; round < 3; round += 1) await one.watch(get('x'));
    const em = other.em();
    const old = await em.findOneOrFail(Tag, { name: 'x' });
    old.name = 'y';
    await em.flush();
    const created = await get('x')(other.em());
    expect(created.id).not.toBe(old.id);
    for (let round = 0; round < 4; round += 1) expect((await get('x')(one.em())).id).toBe(created.id);
    one.store.takeCalls();
    const { sql } = await one.watch(get('x'));
    expect([sql, one.store.takeCalls()]).toEqual([[], ['readMany']]);
  });

  it('finds the row anew when it was deleted and created again elsewhere', async () => {
    await using cluster = await startCluster('redis', { entities: [Tag] });
    const [one, other] = cluster.services;
    for (let round = 0; round < 3; round += 1) await one.watch(get('x'));
    const em = other.em();
    await em.remove(await em.findOneOrFail(Tag, { name: 'x' })).flush();
    const created = await get('x')(other.em());
    for (let round = 0; round < 4; round += 1) expect((await get('x')(one.em())).id).toBe(created.id);
    expect((await one.watch(get('x'))).sql).toEqual([]);
  });

  it('never answers with an older row than what was committed elsewhere', async () => {
    await using cluster = await startCluster('redis', { entities: [Tag] });
    const [one, other] = cluster.services;
    for (let round = 0; round < 3; round += 1) await one.watch(get('x'));
    for (let weight = 2; weight < 12; weight += 1) {
      await other.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight });
      expect((await get('x')(one.em())).weight).toBe(weight);
    }
  });

  it('fills the store again when all rows were evicted', async () => {
    await using cluster = await startCluster('redis', { entities: [Tag] });
    const [one, other] = cluster.services;
    for (let round = 0; round < 3; round += 1) await one.watch(get('x'));
    await other.em().getRepository(Tag).evictAll();
    expect((await one.watch(get('x'))).sql).toHaveLength(1);
    expect((await one.watch(get('x'))).sql).toEqual([]);
    for (let round = 0; round < 2; round += 1) await other.watch(get('x'));
    expect((await other.watch(get('x'))).sql).toEqual([]);
  });
});
