import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo, type CommitMessage, type LookupMessage, type StoreMessage } from '../../src/index.js';
import { newStatistics, sumStatistics } from '../../src/observability/statistics.js';
import { Tag } from '../cache/support/entities.js';
import { startCluster } from '../cache/support/cluster.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const Other = withPlusRepo(
  defineEntity({ name: 'Other', properties: { id: p.integer().primary(), name: p.string().unique() } }),
);

const waysToBeAnswered = [
  'identityMapHits',
  'nearCacheHits',
  'storeHits',
  'databaseHits',
  'created',
  'updated',
] as const;

/** What is published on a channel while `work` runs. */
async function listen<Message>(name: string, work: () => Promise<unknown>): Promise<Message[]> {
  const messages: Message[] = [];
  const listener = (message: unknown): void => {
    messages.push(message as Message);
  };
  subscribe(`mikro-orm-plus:${name}`, listener);
  try {
    await work();
  } finally {
    unsubscribe(`mikro-orm-plus:${name}`, listener);
  }
  return messages;
}

describe('statistics', () => {
  it('count every lookup in exactly one way, and what it did to the store', async () => {
    await using cluster = await startCluster('memory', { entities: [Tag, Other] });
    const [one, other] = cluster.services;
    const em = one.em();
    const repository = em.getRepository(Tag);
    const expected = newStatistics();
    const check = (changes: Partial<typeof expected>): void => {
      for (const [name, by] of Object.entries(changes)) expected[name as keyof typeof expected] += by;
      expect(one.plus.statistics(Tag)).toEqual(expected);
      const answered = waysToBeAnswered.reduce((sum, way) => sum + expected[way], 0);
      expect(answered).toBe(expected.lookups);
    };

    await repository.getOrCreate({ name: 'a' });
    check({ lookups: 1, created: 1, fills: 1 });
    await repository.getOrCreate({ name: 'a' });
    check({ lookups: 1, identityMapHits: 1 });
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    check({ lookups: 1, storeHits: 1 });
    await one.em().getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 1 });
    check({ lookups: 1, updated: 1, softLocks: 1 });
    await one.em().getRepository(Tag).updateOrCreate({ name: 'b' }, { weight: 1 });
    check({ lookups: 1, created: 1, softLocks: 1 });
    await one
      .em()
      .getRepository(Tag)
      .getOrCreateMany([{ name: 'a' }, { name: 'b' }, { name: 'c' }]);
    check({ lookups: 3, storeHits: 2, created: 1, fills: 1 });
    await one.em().getRepository(Tag).evict({ name: 'a' });
    check({ evictions: 1 });
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    check({ lookups: 1, databaseHits: 1, fills: 1 });
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' }, {}, { refresh: true });
    check({ lookups: 1, databaseHits: 1, fills: 1 });
    await one
      .em()
      .getRepository(Tag)
      .getOrCreate({ name: 'a' }, {}, { lookup: { name: 'a' } });
    check({ lookups: 1, databaseHits: 1 });

    // a lost race: the row appears between select and insert
    const guarding = one.store.pauseNext('guard', { when: 'after' });
    const losing = one
      .em()
      .getRepository(Tag)
      .getOrCreate(
        { name: 'raced' },
        {
          weight: async () => {
            await other.em().getRepository(Tag).getOrCreate({ name: 'raced' });
            return 1;
          },
        },
      );
    await guarding.reached;
    guarding.open();
    expect((await losing)[1]).toBe(false);
    check({ lookups: 1, databaseHits: 1, racesLost: 1, fills: 1 });

    // a refused fill
    const filling = one.store.pauseNext('fillMany');
    await one.plus.evict(Tag, { name: 'b' });
    const reading = one.em().getRepository(Tag).getOrCreate({ name: 'b' });
    await filling.reached;
    await other.plus.evict(Tag, { name: 'b' }).catch(() => other.em().getRepository(Tag).evict({ name: 'b' }));
    filling.open();
    await reading;
    check({ lookups: 1, databaseHits: 1, evictions: 1, refusedFills: 1 });
  });

  it('are kept per entity, summed on request, and copies', async () => {
    await using cluster = await startCluster('memory', { entities: [Tag, Other] });
    const [one] = cluster.services;
    expect(one.plus.statistics()).toEqual(newStatistics());
    expect(one.plus.statistics(Other)).toEqual(newStatistics());
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    await one.em().getRepository(Other).getOrCreate({ name: 'a' });
    await one.em().getRepository(Other).getOrCreate({ name: 'a' });
    expect(one.plus.statistics(Tag)).toMatchObject({ lookups: 1, created: 1 });
    expect(one.plus.statistics(Other)).toMatchObject({ lookups: 2, created: 1, storeHits: 1 });
    const sum = one.plus.statistics();
    expect(sum).toMatchObject({ lookups: 3, created: 2, storeHits: 1, storeFailures: 0 });
    sum.lookups = 99;
    expect(one.plus.statistics().lookups).toBe(3);
    one.store.fail();
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    expect(one.plus.statistics().storeFailures).toBe(1);
  });

  it('add up', () => {
    const one = { ...newStatistics(), lookups: 2, fills: 1 };
    const other = { ...newStatistics(), lookups: 3, evictions: 4 };
    expect(sumStatistics([one, other])).toEqual({ ...newStatistics(), lookups: 5, fills: 1, evictions: 4 });
  });
});

describe('the channels', () => {
  it('tell how each lookup was answered, and none of its values', async () => {
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    const messages = await listen<LookupMessage>('lookup', async () => {
      const em = one.em();
      await em.getRepository(Tag).getOrCreate({ name: 'secret' });
      await em.getRepository(Tag).getOrCreate({ name: 'secret' });
      await one.em().getRepository(Tag).getOrCreate({ name: 'secret' });
      await one.em().getRepository(Tag).updateOrCreate({ name: 'secret' }, { weight: 4711 });
      await one.em().getRepository(Tag).getOrCreate({ name: 'secret' }, {}, { refresh: true });
    });
    expect(messages.map(({ servedBy, created, updated }) => [servedBy, created, updated])).toEqual([
      ['database', true, false],
      ['identity-map', false, false],
      ['store', false, false],
      ['database', false, true],
      ['database', false, false],
    ]);
    for (const message of messages) {
      expect(message).toMatchObject({ entity: 'Tag', raceLost: false, duration: expect.any(Number) as number });
      expect(message.duration).toBeGreaterThan(0);
    }
    expect(JSON.stringify(messages)).not.toMatch(/secret|4711/);
  });

  it('tell what the end of a transaction did', async () => {
    await using cluster = await startCluster('memory', { entities: [Tag], timeout: 100 });
    const [one] = cluster.services;
    await one
      .em()
      .getRepository(Tag)
      .getOrCreateMany([{ name: 'a' }, { name: 'b' }]);
    const messages = await listen<CommitMessage>('commit', async () => {
      await one.em().transactional(async (em) => {
        for (const tag of await em.find(Tag, {})) tag.weight = 2;
      });
      await one
        .em()
        .transactional(async (em) => {
          await em.getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 3 });
          throw new Error('undo');
        })
        .catch(() => undefined);
      await one.em().transactional((em) => em.find(Tag, {}));
      one.store.fail();
      await one.em().getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 4 });
    });
    expect(messages).toEqual([
      { entries: 2, outcome: 'committed', released: true },
      { entries: 1, outcome: 'rolled-back', released: true },
      { entries: 1, outcome: 'committed', released: false },
    ]);
  });

  it('tell which operation of a store failed', async () => {
    await using cluster = await startCluster('memory', { entities: [Tag], timeout: 50 });
    const [one] = cluster.services;
    one.store.hang();
    const messages = await listen<StoreMessage>('store', async () => {
      await one.em().getRepository(Tag).getOrCreate({ name: 'secret' });
      await one.em().getRepository(Tag).getOrCreate({ name: 'secret' });
    });
    expect(messages).toEqual([{ store: 'default', operation: 'read', error: expect.any(Error) as Error }]);
    expect(String(messages[0]!.error)).toMatch(/50 ms/);
  });

  it('keep what a subscriber throws from the caller', async () => {
    // Node.js turns it into an uncaught exception, so it takes a process of its own
    const program = `
      import { subscribe } from 'node:diagnostics_channel';
      const { publish } = await import(${JSON.stringify(new URL('../../src/observability/channels.ts', import.meta.url).href)});
      const thrown = [];
      process.on('uncaughtException', (error) => thrown.push(error.message));
      for (const name of ['lookup', 'commit', 'store']) {
        subscribe('mikro-orm-plus:' + name, () => { throw new Error('from ' + name); });
        publish(name, {});
      }
      console.log('published');
      setTimeout(() => console.log(thrown.join()), 10);
    `;
    const args = [...typescriptArgs, '--input-type=module', '--eval', program];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 });
    expect(stdout).toBe('published\nfrom lookup,from commit,from store\n');
    expect(channel('mikro-orm-plus:lookup').hasSubscribers).toBe(false);
  });
});
