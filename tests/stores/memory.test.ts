import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ConfigurationError } from '../../src/errors.js';
import { MemoryStore } from '../../src/stores/MemoryStore.js';
import { describeStoreContract } from '../contract/store-contract.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heapUsed(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

describeStoreContract('MemoryStore', async () => {
  const store = new MemoryStore();
  return { store, prefix: 'test:', loseEverything: () => store.close(), dispose: () => store.close() };
});

describe('MemoryStore', () => {
  const region = 'tag';
  const keysOf = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `tag:${from + index}`);
  const fill = async (store: MemoryStore, keys: string[]) => {
    const permit = { kind: 'guard', region, sequence: await store.guard(region) } as const;
    return store.fillMany(keys.map((key) => ({ key, value: 'row', ttlMs: 60_000, permit })));
  };
  const count = async (store: MemoryStore, keys: string[], kind: string) =>
    (await store.readMany(keys)).filter((found) => found.kind === kind).length;

  it('keeps as many values as it may, the last used ones', async () => {
    const store = new MemoryStore({ maxEntries: 100 });
    await fill(store, keysOf(0, 100));
    await store.readMany(['tag:0']);
    await fill(store, keysOf(100, 199));
    expect(await count(store, keysOf(0, 199), 'hit')).toBe(100);
    expect(await store.readMany(['tag:0', 'tag:1'])).toEqual([{ kind: 'hit', value: 'row' }, { kind: 'miss' }]);
  });

  it('counts leases too, and refuses a fill under one that it had to drop', async () => {
    const store = new MemoryStore({ maxEntries: 10 });
    const [first] = await store.readMany(['tag:first'], { leaseMs: 60_000 });
    const leases = await store.readMany(keysOf(0, 1_000), { leaseMs: 60_000 });
    expect(leases.every(({ kind }) => kind === 'leased')).toBe(true);
    const again = await store.readMany(keysOf(0, 990), { leaseMs: 60_000 });
    expect(again.every(({ kind }) => kind === 'leased')).toBe(true);
    const token = first?.kind === 'leased' ? first.token : '';
    const permit = { kind: 'lease', token } as const;
    expect(await store.fillMany([{ key: 'tag:first', value: 'row', ttlMs: 60_000, permit }])).toEqual([false]);
  });

  it('never drops a soft lock for want of room', async () => {
    const store = new MemoryStore({ maxEntries: 10 });
    const locked = keysOf(0, 5_000).map((key) => ({ key, region }));
    await store.lockMany(locked, 'writer', 60_000);
    await fill(store, keysOf(10_000, 20_000));
    const keys = locked.map(({ key }) => key);
    expect(new Set((await store.readMany(keys, { leaseMs: 60_000 })).map(({ kind }) => kind))).toEqual(
      new Set(['miss']),
    );
    expect(new Set(await fill(store, keys))).toEqual(new Set([false]));
  });

  it('gives back the memory of locks that nobody released', async () => {
    const store = new MemoryStore();
    const lock = (from: number, to: number) =>
      store.lockMany(
        keysOf(from, to).map((key) => ({ key, region })),
        `writer ${from}`,
        20,
      );
    const before = heapUsed();
    for (let round = 0; round < 40; round += 1) {
      await lock(round * 5_000, (round + 1) * 5_000);
      await sleep(25);
    }
    // 200 000 locks take some 60 MB, the ones of two rounds far less.
    expect(heapUsed() - before).toBeLessThan(30_000_000);
  });

  it.each([0, -1, 1.5, NaN, Infinity, 1e9])('refuses maxEntries %p', (maxEntries) => {
    expect(() => new MemoryStore({ maxEntries })).toThrow(ConfigurationError);
  });

  it('can do soft locks, for this process', () => {
    expect(new MemoryStore().capabilities).toEqual({ softLocks: true, shared: false });
  });
});
