import { defineEntity, p } from '@mikro-orm/core';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CachedRepo,
  PlusSubscriber,
  ReadOnlyRegionError,
  cacheRegion,
  withRepo,
  type PlusOptions,
  type RegionOptions,
} from '../../src/index.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../harness/orm.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';

function define(name: string, options: RegionOptions) {
  const schema = defineEntity({
    name,
    properties: { id: p.integer().primary(), name: p.string().unique(), bar: p.integer().default(0) },
  });
  return cacheRegion(withRepo(schema, CachedRepo), options);
}

const Fixed = define('Fixed', { strategy: 'read-only', store: 'redis' });
const loose: RegionOptions = { strategy: 'nonstrict-read-write', store: 'redis', nearCache: { maxEntries: 100 } };
// a machine that stands still for a moment doesn't switch its near cache off
const Loose = define('Loose', { ...loose, maxStaleness: 20_000 });
const Prompt = define('Prompt', { ...loose, maxStaleness: 1_000 });
const Strict = define('Strict', { strategy: 'read-write', store: 'redis' });
const entities = [Fixed, Loose, Prompt, Strict];

const options = (): PlusOptions => ({
  stores: { default: testRedisUrl(), redis: testRedisUrl(), local: 'memory://' },
  prefix: testPrefix(),
  timeout: 20_000,
});

/** A process of its own, as far as the cache can tell: an ORM with a subscriber, stores and near caches of its own. */
interface Member {
  db: TestOrm;
  plus: PlusSubscriber;
}

let here: Member;
let there: Member;

beforeAll(async () => {
  const plus = new PlusSubscriber(options());
  here = { plus, db: await createTestOrm({ entities, subscribers: [plus] }) };
  const other = new PlusSubscriber(options());
  there = { plus: other, db: await connectTestOrm(here.db.url, { entities, subscribers: [other] }) };
  await here.plus.ping();
  await there.plus.ping();
});

const repo = ({ db }: Member, entity: typeof Strict) => db.orm.em.fork().getRepository(entity);

type Answers = 'nearCacheHits' | 'storeHits' | 'databaseHits' | 'created';

/** Who answered one more lookup. */
async function ask(member: Member, entity: typeof Strict, name: string): Promise<[bar: number, by: Answers]> {
  const before = member.plus.statistics(entity);
  const [row] = await repo(member, entity).getOrCreate({ name });
  const after = member.plus.statistics(entity);
  const counters: Answers[] = ['nearCacheHits', 'storeHits', 'databaseHits', 'created'];
  return [row.bar, counters.find((counter) => after[counter] > before[counter])!];
}

/** Looks a row up until the near cache answers: the first lookups fill the store and open the channel. */
async function warm(member: Member, name: string, entity = Loose): Promise<void> {
  while ((await ask(member, entity, name))[1] !== 'nearCacheHits') await delay(10);
}

describe('read-only', () => {
  it('answers from the store, and refuses updates by flush, upsert, updateOrCreate and nativeUpdate', async () => {
    await repo(here, Fixed).getOrCreate({ name: 'a' }, { bar: 1 });
    expect(await ask(there, Fixed, 'a')).toEqual([1, 'storeHits']);

    const em = here.db.orm.em.fork();
    const row = await em.findOneOrFail(Fixed, { name: 'a' });
    row.bar = 2;
    await expect(em.flush()).rejects.toThrow(ReadOnlyRegionError);
    await expect(repo(here, Fixed).updateOrCreate({ name: 'a' }, { bar: 2 })).rejects.toThrow(ReadOnlyRegionError);
    await expect(repo(here, Fixed).nativeUpdate({ name: 'a' }, { bar: 2 })).rejects.toThrow(ReadOnlyRegionError);
    await expect(here.db.orm.em.fork().upsert(Fixed, { name: 'a', bar: 2 })).rejects.toThrow(ReadOnlyRegionError);
    expect((await here.db.orm.em.fork().findOneOrFail(Fixed, { name: 'a' })).bar).toBe(1);
  });

  it('lets rows be deleted, and forgets them', async () => {
    await repo(here, Fixed).getOrCreate({ name: 'b' }, { bar: 1 });
    expect(await ask(there, Fixed, 'b')).toEqual([1, 'storeHits']);
    const em = here.db.orm.em.fork();
    await em.remove(await em.findOneOrFail(Fixed, { name: 'b' })).flush();
    expect(await ask(there, Fixed, 'b')).toEqual([0, 'created']);
  });
});

describe('nonstrict-read-write', () => {
  it('answers from a near cache, without any round trip', async () => {
    await repo(here, Loose).getOrCreate({ name: 'a' }, { bar: 1 });
    await warm(there, 'a');
    there.db.statements.take();
    expect(await ask(there, Loose, 'a')).toEqual([1, 'nearCacheHits']);
    expect(there.db.statements.take()).toEqual([]);
  });

  it('lets no other process see the old row longer than maxStaleness after the commit, and the writer not at all', async () => {
    await repo(here, Prompt).getOrCreate({ name: 'b' }, { bar: 0 });
    for (let bar = 1; bar <= 10; bar++) {
      await warm(here, 'b', Prompt);
      await warm(there, 'b', Prompt);
      const em = here.db.orm.em.fork();
      (await em.findOneOrFail(Prompt, { name: 'b' })).bar = bar;
      await em.flush();
      const committedAt = performance.now();
      expect((await ask(here, Prompt, 'b'))[0]).toBe(bar);
      for (;;) {
        const askedAt = performance.now();
        if ((await ask(there, Prompt, 'b'))[0] === bar) break;
        expect(askedAt - committedAt).toBeLessThan(1_000);
      }
    }
  });

  it('finds the new row of a name whose row was renamed elsewhere, and has that one near by then', async () => {
    await repo(here, Prompt).getOrCreate({ name: 'e' }, { bar: 1 });
    await warm(here, 'e', Prompt);
    const em = there.db.orm.em.fork();
    (await em.findOneOrFail(Prompt, { name: 'e' })).name = 'renamed';
    await em.flush();
    await repo(there, Prompt).getOrCreate({ name: 'e' }, { bar: 2 });
    const renamedAt = performance.now();
    for (;;) {
      const askedAt = performance.now();
      if ((await ask(here, Prompt, 'e'))[0] === 2) break;
      expect(askedAt - renamedAt).toBeLessThan(1_000);
    }
    await warm(here, 'e', Prompt);
    expect(await ask(here, Prompt, 'e')).toEqual([2, 'nearCacheHits']);
  });

  it('forgets nothing on a rollback', async () => {
    await repo(here, Loose).getOrCreate({ name: 'c' }, { bar: 1 });
    await warm(there, 'c');
    const rolledBack = here.db.orm.em.fork().transactional(async (em) => {
      (await em.findOneOrFail(Loose, { name: 'c' })).bar = 2;
      await em.flush();
      throw new Error('no');
    });
    await expect(rolledBack).rejects.toThrow('no');
    expect(await ask(there, Loose, 'c')).toEqual([1, 'nearCacheHits']);
  });

  it('forgets on evict and evictAll, here and elsewhere', async () => {
    await repo(here, Prompt).getOrCreate({ name: 'd' }, { bar: 1 });
    for (const forget of [() => repo(here, Prompt).evict({ name: 'd' }), () => repo(here, Prompt).evictAll()]) {
      await warm(here, 'd', Prompt);
      await warm(there, 'd', Prompt);
      await here.db.orm.em.execute(`update prompt set bar = bar + 1 where name = 'd'`);
      await forget();
      const [{ bar }] = await here.db.orm.em.execute<[{ bar: number }]>(`select bar from prompt where name = 'd'`);
      expect((await ask(here, Prompt, 'd'))[0]).toBe(bar);
      await delay(1_000);
      expect((await ask(there, Prompt, 'd'))[0]).toBe(bar);
    }
  });
});

describe('read-write', () => {
  it('never has a near cache', async () => {
    const entity = define('Wrong', { strategy: 'read-write', store: 'redis', nearCache: {} });
    await using db = await createTestOrm({ entities: [entity], subscribers: [new PlusSubscriber(options())] });
    const lookup = db.orm.em.fork().getRepository(entity).getOrCreate({ name: 'a' });
    await expect(lookup).rejects.toThrow("a read-write region can't have a near cache");
  });

  it('is seen by the next lookup of another process', async () => {
    await repo(here, Strict).getOrCreate({ name: 'a' }, { bar: 0 });
    for (let bar = 1; bar <= 10; bar++) {
      expect((await ask(there, Strict, 'a'))[0]).toBe(bar - 1);
      const em = here.db.orm.em.fork();
      (await em.findOneOrFail(Strict, { name: 'a' })).bar = bar;
      await em.flush();
    }
    expect((await ask(there, Strict, 'a'))[0]).toBe(10);
    expect(there.plus.statistics(Strict).softLocks + here.plus.statistics(Strict).softLocks).toBe(10);
  });
});

it.each([
  [{ nearCache: { maxEntries: 0 } }, 'maxEntries must be a whole number'],
  [{ nearCache: { size: 5 } }, "there is no option 'size'"],
  [{ strategy: 'write-behind' }, "there is no strategy 'write-behind'"],
  [{ nearCache: {}, store: 'local' }, "near cache can't be kept over this store"],
])('refuses a region of %j', async (region, message) => {
  const entity = define('Bad', { strategy: 'nonstrict-read-write', store: 'redis', ...region } as RegionOptions);
  await using db = await createTestOrm({ entities: [entity], subscribers: [new PlusSubscriber(options())] });
  await expect(db.orm.em.fork().getRepository(entity).getOrCreate({ name: 'a' })).rejects.toThrow(message);
});
