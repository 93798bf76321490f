import type { EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as sleep } from 'node:timers/promises';
import { StoreError } from '../../src/index.js';
import { stopProcess } from '../harness/stop-process.js';
import { startServers, testPrefix, testRedisUrl } from '../harness/servers.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { connectTestOrm, createTestOrm } from '../harness/orm.js';
import { PlusSubscriber } from '../../src/index.js';
import { startCluster, storeKinds, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

const TIMEOUT_MS = 400;
/** Where it is measured who waits: well above what a busy machine may add, and that is less than the wait itself. */
const LONG_TIMEOUT_MS = 3_000;
const SLACK_MS = 2_500;
const TURN_MS = 10;

const get = (name: string) => async (em: EntityManager) =>
  (await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 }))[0];

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const startedAt = performance.now();
  const result = await work();
  return { result, ms: performance.now() - startedAt };
}

const changes: Record<string, (em: EntityManager, name: string, weight: number) => Promise<unknown>> = {
  flush: async (em, name, weight) => {
    (await em.findOneOrFail(Tag, { name })).weight = weight;
    await em.flush();
  },
  'em.transactional': (em, name, weight) =>
    em.transactional(async (inner) => {
      (await inner.findOneOrFail(Tag, { name })).weight = weight;
    }),
  updateOrCreate: (em, name, weight) => em.getRepository(Tag).updateOrCreate({ name }, { weight }),
  nativeUpdate: (em, name, weight) => em.getRepository(Tag).nativeUpdate({ name }, { weight }),
  upsert: (em, name, weight) => em.getRepository(Tag).upsert({ name, weight }),
};

/** The time since, but for that in which a busy machine gave this process no turn. */
class OwnTime implements Disposable {
  ms = 0;
  #last = performance.now();
  readonly #timer = setInterval(() => {
    const now = performance.now();
    this.ms += Math.min(now - this.#last, 2 * TURN_MS);
    this.#last = now;
  }, TURN_MS);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Waits until the probe has found that the store is back. */
async function recovered({ plus }: Pick<Service, 'plus'>): Promise<void> {
  while (
    !(await plus.ping().then(
      () => true,
      () => false,
    ))
  )
    await sleep(20);
}

describe.each(storeKinds)('a store over %s', (kind) => {
  it('that fails from the start never fails a call, and is not asked again at once', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS });
    const [one] = cluster.services;
    one.store.fail();
    const { result } = await one.watch(get('x'));
    expect(result.weight).toBe(1);
    expect(one.plus.statistics().storeFailures).toBe(1);
    one.store.takeCalls();
    for (let round = 0; round < 5; round++) {
      expect((await one.watch(get('x'))).sql).toHaveLength(1);
      await one.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 1 });
    }
    // but for the probe in the background, which nobody waits for
    const asked = one.store.takeCalls().filter((operation) => operation !== 'evictMany' && operation !== 'ping');
    expect(asked).toEqual([]);
    expect(one.plus.statistics().storeFailures).toBe(1);
  });

  it('that hangs holds up the calls under way once, for the time limit, and nobody after them', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: LONG_TIMEOUT_MS });
    const [one] = cluster.services;
    await one.watch(get('x'));
    one.store.hang();
    const held = await Promise.all(Array.from({ length: 5 }, () => timed(() => get('x')(one.em()))));
    for (const { ms } of held) {
      expect(ms).toBeGreaterThanOrEqual(LONG_TIMEOUT_MS - 5);
      expect(ms).toBeLessThan(LONG_TIMEOUT_MS + SLACK_MS);
    }
    const end = Date.now() + 1_500;
    while (Date.now() < end) {
      const { ms, result } = await timed(() => get('x')(one.em()));
      expect(result.weight).toBe(1);
      expect(ms).toBeLessThan(SLACK_MS);
      await sleep(10);
    }
    const write = await timed(() => one.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 }));
    expect(write.ms).toBeLessThan(SLACK_MS);
    expect((await one.watch(get('x'))).result.weight).toBe(2);
  });

  it('is used again when it is back', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS });
    const [one] = cluster.services;
    one.store.hang();
    await one.watch(get('x'));
    one.store.heal();
    await recovered(one);
    // (the lease of the first reader, who gave up, keeps its own row out for a while)
    await one.watch(get('y'));
    expect((await one.watch(get('y'))).sql).toEqual([]);
  });

  it.each(Object.keys(changes))(
    'that is down lets %s commit, and gives the new row to all soon after',
    async (change) => {
      await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS });
      const [one, other] = cluster.services;
      for (const service of [one, other]) await service.watch(get('x'));
      one.store.fail();
      for (const weight of [2, 3]) {
        await changes[change]!(one.em(), 'x', weight);
        expect((await one.watch(get('x'))).result.weight).toBe(weight);
      }
      one.store.heal();
      expect((await one.watch(get('x'))).result.weight).toBe(3);
      // the store is told before it counts as well again, so before anything else
      await recovered(one);
      expect((await other.watch(get('x'))).result.weight).toBe(3);
      // and never again the old one
      for (let round = 0; round < 20; round++) {
        expect((await other.watch(get('x'))).result.weight).toBe(3);
        expect((await one.watch(get('x'))).result.weight).toBe(3);
        await sleep(20);
      }
    },
  );

  it.each(Object.keys(changes))('that is down makes %s fail and roll back in a region that rejects', async (change) => {
    const regions = { onStoreFailure: 'reject' } as const;
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS, regions });
    const [one, other] = cluster.services;
    await one.watch(get('x'));
    one.store.fail();
    const em = one.em();
    await expect(changes[change]!(em, 'x', 2)).rejects.toThrow(StoreError);
    expect((await one.watch(get('x'))).result.weight).toBe(1);
    expect((await other.watch(get('x'))).result.weight).toBe(1);
    await expect(em.fork().findOneOrFail(Tag, { name: 'x' })).resolves.toMatchObject({ weight: 1 });
    one.store.heal();
    await recovered(one);
    await changes[change]!(one.em(), 'x', 2);
    for (const service of [one, other]) expect((await service.watch(get('x'))).result.weight).toBe(2);
  });

  it('lets em.commit() fail in a region that rejects, and the caller roll back', async () => {
    const regions = { onStoreFailure: 'reject' } as const;
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS, regions });
    const [one] = cluster.services;
    await one.watch(get('x'));
    one.store.hang('lockMany');
    const em = one.em();
    await em.begin();
    await changes['flush']!(em, 'x', 2);
    await expect(em.commit()).rejects.toThrow(/did not confirm 'lock'/);
    await em.rollback();
    expect((await one.watch(get('x'))).result.weight).toBe(1);
  });

  it.each(['fail', 'hang'] as const)(
    'that %ss between lock and release keeps everybody from the old row',
    async (trouble) => {
      await using cluster = await startCluster(kind, { entities: [Tag], timeout: LONG_TIMEOUT_MS });
      const [one, other] = cluster.services;
      for (const service of [one, other]) await service.watch(get('x'));
      one.store[trouble]('releaseMany', 'evictMany', 'ping');
      // never throws: what is committed is committed
      const { ms } = await timed(() => changes['flush']!(one.em(), 'x', 2));
      expect(ms).toBeLessThan(LONG_TIMEOUT_MS + SLACK_MS);
      for (let round = 0; round < 3; round++) {
        for (const service of [one, other]) expect((await service.watch(get('x'))).result.weight).toBe(2);
      }
      one.store.heal();
      await sleep(700);
      for (const service of [one, other]) expect((await service.watch(get('x'))).result.weight).toBe(2);
    },
  );

  it('that gets a lock and its release too late brings back no older row', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], timeout: TIMEOUT_MS });
    const [one, other] = cluster.services;
    await other.watch(get('x'));
    // a COMMIT that takes so long that the store is thought to be well again before the release
    await one.em().execute(`
      create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(3); return null; end $$;
      create constraint trigger dawdle after update on tag deferrable initially deferred
        for each row when (new.weight = 2) execute function dawdle()`);
    const locking = one.store.pauseNext('lockMany');
    const releasing = one.store.pauseNext('releaseMany');
    const first = one.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 2 });
    await releasing.reached;
    await other.em().getRepository(Tag).updateOrCreate({ name: 'x' }, { weight: 3 });
    locking.open();
    releasing.open();
    await first;
    for (const service of [other, one, other]) expect((await service.watch(get('x'))).result.weight).toBe(3);
  });
});

describe('a real Redis server', () => {
  async function connect(url: string): Promise<{ service: Service; close: () => Promise<void> }> {
    const plus = new PlusSubscriber({ stores: { default: url }, timeout: LONG_TIMEOUT_MS });
    const testOrm = await createTestOrm({ entities: [Tag], subscribers: [plus] });
    const em = (): EntityManager => testOrm.orm.em.fork();
    const watch: Service['watch'] = async (work) => {
      testOrm.statements.take();
      const result = await work(em());
      return { result, sql: testOrm.statements.take() };
    };
    const close = async (): Promise<void> => {
      await testOrm.orm.close();
      await testOrm.close();
    };
    return { service: { ...testOrm, plus, em, watch, store: undefined as never }, close };
  }

  it('that is not there costs one wait at most', async () => {
    const { service, close } = await connect('redis://127.0.0.1:9');
    const first = await timed(() => service.watch(get('x')));
    expect(first.ms).toBeLessThan(LONG_TIMEOUT_MS + SLACK_MS);
    for (let round = 0; round < 20; round++) {
      const { ms } = await timed(() => changes['flush']!(service.em(), 'x', round));
      expect(ms).toBeLessThan(SLACK_MS);
      expect((await service.watch(get('x'))).result.weight).toBe(round);
    }
    await expect(service.plus.ping()).rejects.toThrow(StoreError);
    await close();
  });

  it('that stands still for a while costs one wait, and serves the new row afterwards', async () => {
    await using servers = await startServers({ redis: true });
    const { service, close } = await connect(servers.redis!.url);
    // the first lookup creates the row, the second finds it in the store
    while ((await service.watch(get('x'))).sql.length > 0) await sleep(50);
    await stopProcess(servers.redis!.pid);
    const first = await timed(() => changes['flush']!(service.em(), 'x', 2));
    expect(first.ms).toBeLessThan(LONG_TIMEOUT_MS + SLACK_MS);
    for (let round = 0; round < 20; round++) {
      const { ms, result } = await timed(() => service.watch(get('x')));
      expect(ms).toBeLessThan(SLACK_MS);
      expect(result.result.weight).toBe(2);
      await sleep(30);
    }
    process.kill(servers.redis!.pid, 'SIGCONT');
    await recovered(service);
    for (let round = 0; round < 3; round++) expect((await service.watch(get('x'))).result.weight).toBe(2);
    expect(service.plus.statistics().storeFailures).toBeLessThan(10);
    await close();
  });

  describe.each(['cut', 'held', 'stranded'] as const)('whose connection was %s', (kind) => {
    it('has been told of the new row at most 2 s after it is back', async () => {
      await using proxy = await TcpProxy.start(testRedisUrl());
      const prefix = `${testPrefix()}back-${kind}`;
      // a lock that arrives late keeps the row out of the store for its time
      const regions = { leaseTtl: 700, softLockTtl: 1_000 };
      const ofWriter = new PlusSubscriber({ stores: { default: proxy.through(testRedisUrl()) }, prefix, regions });
      const ofReader = new PlusSubscriber({ stores: { default: testRedisUrl() }, prefix, regions, timeout: 30_000 });
      await using writer = await createTestOrm({ entities: [Tag], subscribers: [ofWriter] });
      await using reader = await connectTestOrm(writer.url, { entities: [Tag], subscribers: [ofReader] });
      const weightOf = async (): Promise<number> => (await get('x')(reader.orm.em.fork())).weight;
      await writer.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'x' }, { weight: 0 });
      for (let round = 1; round <= 6; round++) {
        while (
          !(await ofWriter.ping().then(
            () => true,
            () => false,
          ))
        )
          await sleep(20);
        // until the reader has it from the store
        do reader.statements.take();
        while (!((await weightOf()) === round - 1 && reader.statements.take().length === 0));
        proxy.set({ kind });
        await changes['flush']!(writer.orm.em.fork(), 'x', round);
        // one that is stranded could be reached by a new connection all the time
        if (kind !== 'stranded') {
          await expect(weightOf()).resolves.toBe(round - 1);
          // some are back soon, some when the pauses between two attempts have grown long
          await sleep(round * 150);
          proxy.set({ kind: 'open' });
        }
        using clock = new OwnTime();
        while ((await weightOf()) !== round) await sleep(10);
        expect(clock.ms).toBeLessThanOrEqual(2_000);
        proxy.set({ kind: 'open' });
      }
      await Promise.all([writer.orm.close(), reader.orm.close()]);
    });
  });
});
