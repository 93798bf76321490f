import { defineEntity, p } from '@mikro-orm/postgresql';
import { MemoryStore, PlusSubscriber, withPlusRepo } from '../../src/index.js';
import { connectTestOrm, createTestOrm } from '../harness/orm.js';

const common = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };
const Before = withPlusRepo(defineEntity({ name: 'Before', tableName: 'tag', properties: common }));
const After = withPlusRepo(
  defineEntity({ name: 'After', tableName: 'tag', properties: { ...common, colour: p.string().default('red') } }),
);

/** A rolling deploy: the old and the new version of an entity at work on one table and one store. */
it('two versions of an entity never read what the other stored, and each removes what the other would read', async () => {
  const store = new MemoryStore();
  const subscriber = () => new PlusSubscriber({ stores: { default: store }, prefix: 'app' });
  await using newer = await createTestOrm({ entities: [After], subscribers: [subscriber()] });
  await using older = await connectTestOrm(newer.url, { entities: [Before], subscribers: [subscriber()] });
  const where = { name: 'x' };
  const old = async () => (await older.orm.em.fork().getRepository(Before).get(where)).weight;
  const young = async () => {
    const { weight, colour } = await newer.orm.em.fork().getRepository(After).get(where);
    expect(colour).toBe('red');
    return weight;
  };

  expect(await old()).toBe(0);
  for (const read of [young, old, young, young]) expect(await read()).toBe(0);
  newer.statements.take();
  expect(await young()).toBe(0);
  expect(newer.statements.take()).toEqual([]);

  for (const weight of [1, 2]) {
    const em = older.orm.em.fork();
    (await em.findOneOrFail(Before, where)).weight = weight * 10;
    await em.flush();
    for (const read of [young, old, old, young, young]) expect(await read()).toBe(weight * 10);

    const newEm = newer.orm.em.fork();
    (await newEm.findOneOrFail(After, where)).weight = weight;
    await newEm.flush();
    for (const read of [old, young, young, old, old]) expect(await read()).toBe(weight);
  }
});
