import type { EntityManager } from '@mikro-orm/postgresql';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

type Outcome = 'commit' | 'rollback';
type Work = (em: EntityManager) => Promise<void>;

class Rollback extends Error {}

async function swallowRollback(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof Rollback)) throw error;
  });
}

/** Every way to hold a transaction open around `work`. */
const transactions: Record<string, (em: EntityManager, work: Work, outcome: Outcome) => Promise<void>> = {
  'em.transactional': (em, work, outcome) =>
    swallowRollback(
      em.transactional(async (inner) => {
        await work(inner);
        if (outcome === 'rollback') throw new Rollback();
      }),
    ),
  'em.begin': async (em, work, outcome) => {
    await em.begin();
    await work(em);
    await (outcome === 'commit' ? em.commit() : em.rollback());
  },
  'a savepoint': (em, work, outcome) =>
    swallowRollback(
      em.transactional(async (outer) => {
        await outer.transactional(async (inner) => inner.transactional(work));
        if (outcome === 'rollback') throw new Rollback();
      }),
    ),
};

/** Every way to change the weight of a row that is in the cache, and to have it evicted for one that isn't seen. */
const writes: Record<string, (em: EntityManager, name: string, weight: number) => Promise<void>> = {
  flush: async (em, name, weight) => {
    (await em.findOneOrFail(Tag, { name })).weight = weight;
    await em.flush();
  },
  'a flush of a reference': async (em, name, weight) => {
    const { id } = await em.fork({ keepTransactionContext: true }).findOneOrFail(Tag, { name });
    em.getReference(Tag, id).weight = weight;
    await em.flush();
  },
  updateOrCreate: async (em, name, weight) => {
    await em.getRepository(Tag).updateOrCreate({ name }, { weight });
  },
  'em.upsert': async (em, name, weight) => {
    await em.upsert(Tag, { name, weight });
  },
  'em.upsertMany': async (em, name, weight) => {
    await em.upsertMany(Tag, [{ name, weight }]);
  },
  'repository.upsert': async (em, name, weight) => {
    await em.getRepository(Tag).upsert({ name, weight });
  },
  'repository.upsertMany': async (em, name, weight) => {
    await em.getRepository(Tag).upsertMany([{ name, weight }]);
  },
  'repository.nativeUpdate': async (em, name, weight) => {
    await expect(em.getRepository(Tag).nativeUpdate({ name }, { weight })).resolves.toBe(1);
  },
  'SQL and evict': async (em, name, weight) => {
    await em.execute('update tag set weight = ? where name = ?', [weight, name]);
    await em.getRepository(Tag).evict({ name });
  },
  'SQL and evictAll': async (em, name, weight) => {
    await em.execute('update tag set weight = ? where name = ?', [weight, name]);
    await em.getRepository(Tag).evictAll();
  },
};

describe.each(storeKinds)('a change in a transaction, with a cache over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;
  let rows = 0;

  beforeAll(async () => {
    cluster = await startCluster(kind, { entities: [Tag] });
    [one, other] = cluster.services;
  });

  beforeEach(() => one.store.dropPauses());

  afterAll(() => cluster[Symbol.asyncDispose]());

  /** A row of weight 1 that both services would answer from the cache. */
  async function cachedRow(): Promise<string> {
    rows += 1;
    const name = `row ${rows}`;
    await one.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    expect((await other.watch((em) => em.getRepository(Tag).getOrCreate({ name }))).sql).toEqual([]);
    return name;
  }

  const weightOf = async (em: EntityManager, name: string): Promise<number> => {
    const [tag, created] = await em.getRepository(Tag).getOrCreate({ name });
    expect(created).toBe(false);
    return tag.weight;
  };

  describe.each(Object.entries(transactions))('%s', (_, transaction) => {
    it.each(Object.keys(writes))('%s is seen by others from its commit on, and by itself at once', async (write) => {
      const name = await cachedRow();
      const locking = one.store.pauseNext('lockMany', { when: 'after' });
      const releasing = one.store.pauseNext('releaseMany');
      const changed = transaction(
        one.em(),
        async (em) => {
          await writes[write]!(em, name, 2);
          expect(await weightOf(other.em(), name)).toBe(1);
          em.clear();
          expect(await weightOf(em, name)).toBe(2);
          expect(await weightOf(other.em(), name)).toBe(1);
        },
        'commit',
      );
      // a whole region isn't locked, but cleared after the commit
      if (write !== 'SQL and evictAll') {
        await Promise.race([locking.reached, changed]);
        expect(await weightOf(other.em(), name)).toBe(1);
        locking.open();
        await releasing.reached;
        expect(await weightOf(other.em(), name)).toBe(2);
        expect(await weightOf(one.em(), name)).toBe(2);
        releasing.open();
      }
      await changed;
      for (const service of [other, one, other]) expect(await weightOf(service.em(), name)).toBe(2);
      expect((await other.watch((em) => weightOf(em, name))).sql).toEqual([]);
    });

    it.each(Object.keys(writes))('%s leaves no trace when it is rolled back', async (write) => {
      const name = await cachedRow();
      await transaction(
        one.em(),
        async (em) => {
          await writes[write]!(em, name, 2);
          em.clear();
          expect(await weightOf(em, name)).toBe(2);
          expect(await weightOf(other.em(), name)).toBe(1);
        },
        'rollback',
      );
      for (const service of [one, other, one]) expect(await weightOf(service.em(), name)).toBe(1);
      expect((await one.watch((em) => weightOf(em, name))).sql).toEqual([]);
    });
  });

  describe('outside a transaction', () => {
    it.each(Object.keys(writes))('%s is seen by others when it is done', async (write) => {
      const name = await cachedRow();
      for (const weight of [2, 3]) {
        await writes[write]!(one.em(), name, weight);
        for (const service of [other, one]) expect(await weightOf(service.em(), name)).toBe(weight);
      }
      expect((await other.watch((em) => weightOf(em, name))).sql).toEqual([]);
    });

    it.each(['repository.upsert', 'repository.upsertMany', 'repository.nativeUpdate', 'updateOrCreate', 'flush'])(
      '%s bypasses the row from before its commit until the store is told',
      async (write) => {
        const name = await cachedRow();
        const locking = one.store.pauseNext('lockMany', { when: 'after' });
        const releasing = one.store.pauseNext('releaseMany');
        const changed = writes[write]!(one.em(), name, 2);
        await locking.reached;
        expect(await weightOf(other.em(), name)).toBe(1);
        locking.open();
        await releasing.reached;
        expect(await weightOf(other.em(), name)).toBe(2);
        releasing.open();
        await changed;
        expect(await weightOf(other.em(), name)).toBe(2);
      },
    );
  });
});
