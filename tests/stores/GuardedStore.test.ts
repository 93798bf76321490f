import { jest } from '@jest/globals';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { ConfigurationError, MemoryStore, RedisStore, StoreError } from '../../src/index.js';
import { GuardedStore } from '../../src/stores/GuardedStore.js';
import { ControlledStore } from '../cache/support/ControlledStore.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';

const TIMEOUT_MS = 60;
const region = 'r';
const entry = (id: number | string) => ({ key: `${region}:o:${id}`, region });

describe('a guarded store', () => {
  let real: MemoryStore;
  let controlled: ControlledStore;
  let guarded: GuardedStore;
  let failures: number;

  beforeEach(() => {
    real = new MemoryStore();
    controlled = new ControlledStore(real);
    failures = 0;
    const onFailure = (): void => {
      failures += 1;
    };
    guarded = new GuardedStore('main', controlled, { timeoutMs: TIMEOUT_MS, owned: false, onFailure });
  });

  afterEach(async () => {
    controlled.heal();
    await guarded.close();
  });

  /** Puts a value where any process may read it. */
  async function put(id: number | string, value: string): Promise<void> {
    const sequence = await real.guard(region);
    await real.fillMany([{ key: entry(id).key, value, ttlMs: 60_000, permit: { kind: 'guard', region, sequence } }]);
  }

  const read = async (id: number | string): Promise<string | undefined> => {
    const [result] = await guarded.readMany([entry(id)]);
    return result!.kind === 'hit' ? result!.value : undefined;
  };

  const inStore = async (id: number | string): Promise<string | undefined> => {
    const [result] = await real.readMany([entry(id).key]);
    return result!.kind === 'hit' ? result!.value : undefined;
  };

  async function until(condition: () => Promise<boolean>): Promise<void> {
    while (!(await condition())) await sleep(20);
  }

  /** What the store was asked since the last time, but for the probe. */
  const asked = (): string[] => controlled.takeCalls().filter((operation) => operation !== 'ping');

  it.each(['fail', 'hang'] as const)(
    'answers reads with misses while its store %ss, and asks it no more',
    async (trouble) => {
      await put(1, 'x');
      expect(await read(1)).toBe('x');
      controlled[trouble]();
      expect(await read(1)).toBeUndefined();
      asked();
      expect(await read(1)).toBeUndefined();
      expect(await guarded.guard(region, 1_000)).toBeUndefined();
      expect(
        await guarded.fillMany([{ ...entry(2), value: 'y', ttlMs: 1, permit: { kind: 'lease', token: 't' } }]),
      ).toEqual([false]);
      expect(asked()).toEqual([]);
      expect(failures).toBe(1);
      controlled.heal();
      await until(async () => (await read(1)) === 'x');
    },
  );

  it('throws when a lock is not confirmed, at once while the store is known to be down', async () => {
    controlled.hang();
    await expect(guarded.lockMany([entry(1)], 'holder', 1_000)).rejects.toThrow(StoreError);
    asked();
    await expect(guarded.lockMany([entry(1)], 'holder', 1_000)).rejects.toThrow(/'main' did not confirm 'lock'/);
    await expect(guarded.ping()).rejects.toThrow(StoreError);
    expect(asked()).toEqual([]);
  });

  it.each(['releaseMany', 'evictMany'] as const)(
    'keeps what %s could not tell out of reads until it is told',
    async (operation) => {
      await put(1, 'old');
      await put(2, 'other');
      controlled.fail();
      const told =
        operation === 'evictMany' ? guarded.evictMany([entry(1)]) : guarded.releaseMany([entry(1)], 'holder');
      expect(await told).toBe(false);
      expect(await read(1)).toBeUndefined();
      expect(await inStore(1)).toBe('old');
      controlled.heal();
      await until(async () => (await inStore(1)) === undefined);
      await put(1, 'new');
      await until(async () => (await read(1)) === 'new');
      expect(await inStore(2)).toBe('other');
    },
  );

  it('does not believe an answer that was under way when a change could not be told', async () => {
    await put(1, 'old');
    const reading = controlled.pauseNext('readMany', { when: 'after' });
    const result = read(1);
    await reading.reached;
    controlled.fail('evictMany', 'ping');
    await guarded.evictMany([entry(1)]);
    reading.open();
    expect(await result).toBeUndefined();
  });

  it('keeps owing what was owed anew while the first change was being told', async () => {
    controlled.fail();
    await guarded.evictMany([entry(1)]);
    controlled.heal();
    const telling = controlled.pauseNext('evictMany', { when: 'after' });
    await telling.reached;
    guarded.owe([entry(1)]);
    await put(1, 'stale again');
    telling.open();
    await sleep(10);
    expect(await read(1)).toBeUndefined();
    await until(async () => (await inStore(1)) === undefined);
  });

  it('gives up a whole region when there is too much to remember', async () => {
    await put('any', 'old');
    await put('other', 'old');
    controlled.fail();
    await guarded.evictMany(Array.from({ length: 10_001 }, (_, index) => entry(index)));
    controlled.heal();
    expect(await read('any')).toBeUndefined();
    await until(async () => (await inStore('any')) === undefined);
    await put('any', 'new');
    await until(async () => (await read('any')) === 'new');
  });

  it('tells thousands of changes one after the other, each within the time limit', async () => {
    const ids = Array.from({ length: 3_000 }, (_, index) => index);
    for (const id of [0, 2_999]) await put(id, 'old');
    controlled.fail();
    await guarded.evictMany(ids.map(entry));
    controlled.heal();
    controlled.delay(20);
    await until(async () => (await inStore(0)) === undefined && (await inStore(2_999)) === undefined);
    expect(await read(0)).toBeUndefined();
  });

  it('bypasses a region that could not be cleared until it is', async () => {
    await put(1, 'old');
    controlled.fail();
    await expect(guarded.clear(region)).rejects.toThrow(StoreError);
    controlled.heal();
    expect(await read(1)).toBeUndefined();
    await until(async () => (await inStore(1)) === undefined);
    await put(1, 'new');
    await until(async () => (await read(1)) === 'new');
  });

  it('takes its time to clear a region', async () => {
    await put(1, 'old');
    controlled.delay(3 * TIMEOUT_MS);
    await guarded.clear(region);
    expect(await inStore(1)).toBeUndefined();
    expect(failures).toBe(0);
  });

  it('uses the last chance at its end to tell what it owes, and ends in time without', async () => {
    await put(1, 'old');
    controlled.fail();
    await guarded.evictMany([entry(1)]);
    controlled.heal();
    await guarded.close();
    expect(await inStore(1)).toBeUndefined();

    const other = new GuardedStore('other', controlled, {
      timeoutMs: TIMEOUT_MS,
      owned: false,
      onFailure: () => undefined,
    });
    controlled.hang();
    await other.evictMany([entry(2)]);
    const startedAt = performance.now();
    await other.close();
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  it('closes what was opened for it, and nothing else', async () => {
    let closed = 0;
    const store = Object.assign(new MemoryStore(), { close: async () => void (closed += 1) });
    const options = { timeoutMs: TIMEOUT_MS, onFailure: () => undefined };
    await new GuardedStore('handed in', store, { ...options, owned: false }).close();
    expect(closed).toBe(0);
    await new GuardedStore('opened', store, { ...options, owned: true }).close();
    expect(closed).toBe(1);
  });

  it('passes on what is wrong with the configuration, and goes on', async () => {
    const broken = Object.assign(new MemoryStore(), {
      readMany: () => Promise.reject(new ConfigurationError('a package is missing')),
    });
    const store = new GuardedStore('broken', broken, {
      timeoutMs: TIMEOUT_MS,
      owned: false,
      onFailure: () => (failures += 1),
    });
    await expect(store.readMany([entry(1)])).rejects.toThrow('a package is missing');
    await expect(store.ping()).resolves.toBeUndefined();
    expect(failures).toBe(0);
  });

  it('opens its circuit once for all operations that fail together, and tells each failure', async () => {
    const told: boolean[] = [];
    const options = { timeoutMs: TIMEOUT_MS, owned: false, onFailure: () => void (failures += 1) };
    const store = new GuardedStore('shaky', controlled, { ...options, onCircuit: (isOpen) => void told.push(isOpen) });
    controlled.fail();
    const results = await Promise.all([1, 2, 3].map((id) => store.readMany([entry(id)], { leaseMs: id * 1_000 })));
    expect(results).toEqual([1, 2, 3].map(() => [{ kind: 'miss' }]));
    expect([failures, told]).toEqual([3, [true]]);
    controlled.heal();
    await until(async () => told.length > 1);
    expect(told).toEqual([true, false]);
    await store.close();
  });

  it('takes a store that throws at once for one that fails', async () => {
    const throwing = Object.assign(new MemoryStore(), {
      readMany: () => {
        throw new Error('not ready');
      },
    });
    const onFailure = (): void => void (failures += 1);
    const store = new GuardedStore('throwing', throwing, { timeoutMs: TIMEOUT_MS, owned: false, onFailure });
    await expect(store.readMany([entry(1)])).resolves.toEqual([{ kind: 'miss' }]);
    expect(failures).toBe(1);
    await store.close();
  });

  it('blames the store for nothing when it was this process that had no time', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [peer] = await accepted;
    // its answer is on the socket at once, and this process doesn't get to it
    const prompt = Object.assign(new MemoryStore(), {
      ping: async () => {
        const answered = once(socket, 'data');
        peer.write('pong');
        await answered;
      },
    });
    const store = new GuardedStore('prompt', prompt, { timeoutMs: 50, owned: false, onFailure: () => (failures += 1) });
    for (let round = 0; round < 5; round++) {
      const asking = store.ping();
      await setImmediate();
      const end = Date.now() + 150;
      while (Date.now() < end);
      await asking;
    }
    expect(failures).toBe(0);
    await store.close();
    socket.destroy();
    peer.destroy();
    server.close();
  });

  it('lets the probe alone close the circuit, and nobody wait for it', async () => {
    await put(1, 'x');
    controlled.fail();
    expect(await read(1)).toBeUndefined();
    controlled.heal();
    const probing = controlled.pauseNext('ping', { when: 'after' });
    await probing.reached;
    // while its outcome is open
    expect(await read(1)).toBeUndefined();
    await expect(guarded.lockMany([entry(1)], 'holder', 1_000)).rejects.toThrow(StoreError);
    expect(asked()).toEqual(['readMany']);
    probing.open();
    await until(async () => (await read(1)) === 'x');
  });
});

describe('a guarded store that is shared', () => {
  it('reads one key for many callers at a time, and gives its lease to one of them', async () => {
    const prefix = testPrefix();
    const store = new RedisStore(testRedisUrl());
    const shared = new GuardedStore('main', store, { timeoutMs: 5_000, owned: true, onFailure: () => undefined });
    const readMany = jest.spyOn(store, 'readMany');
    const asked = { key: `${prefix}:o:1`, region: prefix };
    const other = { key: `${prefix}:o:2`, region: prefix };
    const results = await Promise.all([
      shared.readMany([asked], { leaseMs: 10_000 }),
      shared.readMany([other, asked], { leaseMs: 10_000 }),
      shared.readMany([asked], { leaseMs: 10_000 }),
    ]);
    expect(results.map((each) => each.map(({ kind }) => kind))).toEqual([['leased'], ['leased', 'miss'], ['miss']]);
    expect(readMany.mock.calls.map(([keys]) => keys)).toEqual([[asked.key, other.key]]);

    const [leased] = results[0];
    const token = leased!.kind === 'leased' ? leased!.token : '';
    const fill = { key: asked.key, value: 'x', ttlMs: 60_000, permit: { kind: 'lease', token } } as const;
    const refused = { ...fill, key: other.key, permit: { kind: 'lease', token: 'another' } } as const;
    await expect(Promise.all([shared.fillMany([fill]), shared.fillMany([refused])])).resolves.toEqual([
      [true],
      [false],
    ]);
    await shared.close();
  });
});

describe('a guarded store whose store is back', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  const timeoutMs = 250;
  const troubles = ['fail', 'hang'] as const;
  const phases = Array.from({ length: 21 }, (_, index) => index * 25);

  async function missesAndIsBack(trouble: (typeof troubles)[number], phase: number): Promise<string[]> {
    const real = new MemoryStore();
    const controlled = new ControlledStore(real);
    const guarded = new GuardedStore('main', controlled, { timeoutMs, owned: false, onFailure: () => undefined });
    const entries = Array.from({ length: 1_200 }, (_, id) => entry(id));
    const sequence = await real.guard(region);
    const permit = { kind: 'guard', region, sequence } as const;
    await real.fillMany(entries.map(({ key }) => ({ key, value: 'old', ttlMs: 600_000, permit })));
    controlled[trouble]();
    const told = guarded.evictMany(entries);
    await jest.advanceTimersByTimeAsync(10_000 + phase);
    await expect(told).resolves.toBe(false);
    controlled.healForgetting();
    await jest.advanceTimersByTimeAsync(750);
    const left = await real.readMany(entries.map(({ key }) => key));
    await guarded.close();
    return left.flatMap((result) => (result.kind === 'hit' ? [result.value] : []));
  }

  it.each(troubles)('has told it what it missed within 750 ms, whenever that is, after it %sed', async (trouble) => {
    for (const phase of phases) expect([phase, ...(await missesAndIsBack(trouble, phase))]).toEqual([phase]);
  });
});
