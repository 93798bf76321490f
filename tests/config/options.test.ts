import { defineEntity, p } from '@mikro-orm/postgresql';
import { resolveRegion, type RegionOptions } from '../../src/config/region-options.js';
import {
  CacheRegion,
  cacheRegion,
  CachedRepo,
  ConfigurationError,
  MemoryStore,
  PlusSubscriber,
  StoreError,
  withPlusRepo,
  withRepo,
} from '../../src/index.js';
import type { PlusOptions } from '../../src/PlusOptions.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../harness/orm.js';

const properties = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };

describe('options of a PlusSubscriber', () => {
  it.each<[string, unknown, RegExp]>([
    ['an unknown option', { store: 'memory://' }, /no option 'store'; known are stores, /],
    ['an unknown option of all regions', { regions: { tll: 1 } }, /no option 'tll'/],
    ['an unknown strategy', { regions: { strategy: 'write-only' } }, /no strategy 'write-only'/],
    ['an unknown policy', { regions: { onStoreFailure: 'ignore' } }, /'bypass' or 'reject'/],
    ['a time that is no number', { timeout: '250' }, /timeout must be a number of milliseconds/],
    ['a time of nothing', { timeout: 0 }, /timeout must be/],
    ['a time without end', { regions: { ttl: Infinity } }, /ttl must be/],
    ['a negative time', { regions: { leaseTtl: -1 } }, /leaseTtl must be/],
    [
      'a lease that outlives the lock',
      { regions: { leaseTtl: 500, softLockTtl: 400 } },
      /leaseTtl \(500\) must be less than/,
    ],
    ['an empty prefix', { prefix: '' }, /prefix .* can't be empty/],
  ])('are refused with %s', (_, options, message) => {
    expect(() => new PlusSubscriber(options as PlusOptions)).toThrow(ConfigurationError);
    expect(() => new PlusSubscriber(options as PlusOptions)).toThrow(message);
  });

  it('have defaults, which regions inherit and override', () => {
    const defaults = resolveRegion('all', { ttl: 5_000, onStoreFailure: 'reject' });
    expect(defaults).toMatchObject({
      store: 'default',
      strategy: 'read-write',
      leaseTtl: 10_000,
      softLockTtl: 30_000,
      exclude: [],
    });
    const options: RegionOptions = { ttl: 1_000, store: undefined };
    expect(resolveRegion('one', options, defaults)).toMatchObject({
      ttl: 1_000,
      store: 'default',
      onStoreFailure: 'reject',
    });
    expect(Object.isFrozen(defaults)).toBe(true);
  });
});

describe('a region that can’t work', () => {
  const versioned = { ...properties, revision: p.integer().version() };
  const declare = (options: object) =>
    cacheRegion(withPlusRepo(defineEntity({ name: 'Tag', properties: versioned })), options as RegionOptions);

  it.each<[string, object, RegExp]>([
    ['an unknown store', { store: 'redsi' }, /no store 'redsi' for Tag: known are other, default/],
    ['an unknown strategy', { strategy: 'sometimes' }, /Tag: there is no strategy 'sometimes'/],
    ['an unknown option', { tll: 1 }, /Tag: there is no option 'tll'/],
    ['an excluded property that isn’t there', { exclude: ['nmae'] }, /excludes 'nmae', which is no property of Tag/],
    ['an excluded primary key', { exclude: ['id'] }, /excludes 'id', which is needed to find or to update the row/],
    ['an excluded version', { exclude: ['revision'] }, /excludes 'revision', which is needed/],
    ['an excluded name of the object prototype', { exclude: ['toString'] }, /is no property of Tag/],
  ])('(%s) is told at its first use', async (_, options, message) => {
    const Tag = declare(options);
    const plus = new PlusSubscriber({ stores: { other: 'memory://' } });
    await using testOrm = await createTestOrm({ entities: [Tag], subscribers: [plus] });
    const lookup = testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'x' });
    const error: unknown = await lookup.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ message: expect.stringMatching(message) as string });
    await testOrm.orm.close();
  });

  it('(a store without soft locks) is told at its first use', async () => {
    const Tag = declare({});
    const store = Object.assign(new MemoryStore(), { capabilities: { softLocks: false, shared: true } });
    await using testOrm = await createTestOrm({
      entities: [Tag],
      subscribers: [new PlusSubscriber({ stores: { default: store } })],
    });
    await expect(testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'x' })).rejects.toThrow(/no soft locks/);
    await testOrm.orm.close();
  });

  it('(a URL that no store has) is told without showing it', async () => {
    const Tag = declare({});
    const plus = new PlusSubscriber({ stores: { default: 'redsi://:secret@localhost' } });
    await using testOrm = await createTestOrm({ entities: [Tag], subscribers: [plus] });
    const error: unknown = await testOrm.orm.em
      .fork()
      .getRepository(Tag)
      .getOrCreate({ name: 'x' })
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(String(error)).not.toContain('secret');
    await testOrm.orm.close();
  });

  it('can’t be declared for what is no entity', () => {
    expect(() => cacheRegion({} as never, {})).toThrow(ConfigurationError);
    expect(() => cacheRegion(undefined as never, {})).toThrow(ConfigurationError);
    expect(() => cacheRegion('Tag' as never, {})).toThrow(ConfigurationError);
  });
});

describe('wiring', () => {
  const closing = async (testOrm: TestOrm, work: () => Promise<void>): Promise<void> => {
    await work();
    await testOrm.orm.close();
    await testOrm.close();
  };

  it('refuses a cached repository without a PlusSubscriber', async () => {
    const Tag = withRepo(defineEntity({ name: 'Tag', properties }), CachedRepo);
    const testOrm = await createTestOrm({ entities: [Tag] });
    await closing(testOrm, async () => {
      const repository = testOrm.orm.em.fork().getRepository(Tag);
      await expect(repository.getOrCreate({ name: 'x' })).rejects.toThrow(/no PlusSubscriber is registered/);
      await expect(repository.updateOrCreate({ name: 'x' }, {})).rejects.toThrow(ConfigurationError);
      await expect(repository.evictAll()).rejects.toThrow(ConfigurationError);
    });
  });

  it('refuses to evict before the ORM was met, and then works for each class', async () => {
    const Tag = withPlusRepo(defineEntity({ name: 'Tag', properties }));
    const Plain = defineEntity({ name: 'Plain', properties });
    const plus = new PlusSubscriber();
    const testOrm = await createTestOrm({ entities: [Tag, Plain], subscribers: [plus] });
    await closing(testOrm, async () => {
      await expect(plus.evict(Tag, 1)).rejects.toThrow(ConfigurationError);
      await expect(plus.evictAll()).rejects.toThrow(ConfigurationError);
      await testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'x' });
      await plus.evict(Tag, 1);
      await plus.evictAll(Tag);
      await plus.evictAll();
      await plus.evict(Plain, 1);
    });
  });

  it('asks every store whether it answers, and names the one that doesn’t', async () => {
    const silent = Object.assign(new MemoryStore(), { ping: () => Promise.reject(new Error('gone')) });
    await expect(
      new PlusSubscriber({ stores: { default: 'memory://', extra: 'memory://' } }).ping(),
    ).resolves.toBeUndefined();
    const ping = new PlusSubscriber({ stores: { extra: silent } }).ping();
    await expect(ping).rejects.toThrow(StoreError);
    await expect(ping).rejects.toThrow(/'extra'/);
  });

  it('puts the rows of a region into its own store, and lookups into the default one', async () => {
    const Tag = cacheRegion(withPlusRepo(defineEntity({ name: 'Tag', properties })), { store: 'rows', ttl: 60_000 });
    const [rows, hints] = [new MemoryStore(), new MemoryStore()];
    const subscribers = () => [new PlusSubscriber({ stores: { default: hints, rows }, prefix: 'p' })];
    const testOrm = await createTestOrm({ entities: [Tag], subscribers: subscribers() });
    const read = async ({ orm, statements } = testOrm): Promise<number> => {
      statements.take();
      await orm.em.fork().getRepository(Tag).getOrCreate({ name: 'x' });
      return statements.take().length;
    };
    await closing(testOrm, async () => {
      await read();
      expect(await read()).toBe(0);
      await rows.clear('p');
      expect(await read()).toBe(1);
      expect(await read()).toBe(0);
      await hints.clear('p');
      // who has looked the row up remembers where that led
      expect(await read()).toBe(0);
      const other = await connectTestOrm(testOrm.url, { entities: [Tag], subscribers: subscribers() });
      await closing(other, async () => {
        expect(await read(other)).toBe(1);
        expect(await read(other)).toBe(0);
      });
      await testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ id: 1 });
      await testOrm.orm.em.fork().getRepository(Tag).evictAll();
      expect(await read()).toBe(1);
    });
  });

  it('takes a region declared by decorator, and for a class whose repository is plain', async () => {
    const decorate = CacheRegion({ ttl: 1_000 });
    class Note {
      name = '';
    }
    expect(decorate(Note)).toBeUndefined();
    const Declared = cacheRegion(defineEntity({ name: 'Declared', properties }), {});
    const plus = new PlusSubscriber();
    const testOrm = await createTestOrm({ entities: [Declared], subscribers: [plus] });
    await closing(testOrm, async () => {
      for (let round = 0; round < 2; round++) {
        const repository = new CachedRepo(testOrm.orm.em.fork(), Declared as never) as CachedRepo<{
          name: string;
        }>;
        await repository.getOrCreate({ name: 'x' });
      }
      expect(plus.statistics(Declared)).toMatchObject({ created: 1, storeHits: 1 });
    });
  });
});
