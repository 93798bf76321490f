import { setTimeout as sleep } from 'node:timers/promises';
import type { CacheStore, FillEntry, LockEntry, ReadResult } from '../../src/stores/CacheStore.js';
import { describeStoreModel } from './store-model.js';

/** A fresh, empty store for one test. */
export interface StoreUnderTest {
  readonly store: CacheStore;
  /** What keys and regions of the test start with. */
  readonly prefix: string;
  /** Loses everything behind the store's back, as a restart or a flush does. */
  loseEverything(): Promise<void>;
  /** Closes what was opened for the test. */
  dispose(): Promise<void>;
}

export type MakeStore = () => Promise<StoreUnderTest>;

/** What differs between stores, by their own word. */
export interface StoreTraits {
  /** As in the store's capabilities. Without soft locks, a lock and a release are evicts, and nothing is written through. */
  readonly softLocks: boolean;
  /** Of the largest value to try. */
  readonly largeValueBytes: number;
  /** Of random sequences, where another suite has tried the same commands. */
  readonly share: number;
}

const DEFAULT_TRAITS: StoreTraits = { softLocks: true, largeValueBytes: 1_000_000, share: 1 };

/** Life of what has to last through a test. */
const LONG = 60_000;
/** Life of what has to end within a test, and a time after which it has. */
const SHORT = 60;
const AFTER_SHORT = 90;
/** The same where something has to happen before the end, on a machine that may stand still for a moment. */
const BRIEF = 1_500;
const AFTER_BRIEF = 1_600;

const STATES = ['absent', 'leased', 'locked', 'value'] as const;
type State = (typeof STATES)[number];

/** One suite for every store: each cell of the state table in `CacheStore.ts`, and the races that it is there for. */
export function describeStoreContract(name: string, makeStore: MakeStore, own: Partial<StoreTraits> = {}): void {
  const { softLocks, largeValueBytes, share } = { ...DEFAULT_TRAITS, ...own };
  const states = STATES.filter((state) => softLocks || state !== 'locked');
  /** The rows of the state table whose state the store has. */
  const rows = <Row extends readonly [State, ...unknown[]]>(all: readonly Row[]): readonly Row[] =>
    all.filter(([state]) => states.includes(state));

  describe(`${name} keeps the contract of stores`, () => {
    let subject: StoreUnderTest;
    let store: CacheStore;
    let region: string;
    let entry: LockEntry;
    let key: string;

    beforeEach(async () => {
      subject = await makeStore();
      store = subject.store;
      region = `${subject.prefix}tag`;
      key = `${region}:1`;
      entry = { key, region };
    });

    afterEach(() => subject.dispose());

    const read = async (leaseMs?: number, of = key): Promise<ReadResult> =>
      (await store.readMany([of], leaseMs === undefined ? {} : { leaseMs }))[0]!;

    const lease = async (leaseMs = LONG, of = key): Promise<FillEntry['permit']> => {
      const found = await read(leaseMs, of);
      if (found.kind !== 'leased') {
        throw new Error(`expected a lease, got ${found.kind}`);
      }
      return { kind: 'lease', token: found.token };
    };

    const guard = async (guardMs = LONG, of = region): Promise<FillEntry['permit']> => ({
      kind: 'guard',
      region: of,
      sequence: await store.guard(of, { guardMs }),
    });

    const fill = async (permit: FillEntry['permit'], value: string | undefined, ttlMs = LONG): Promise<boolean> =>
      (await store.fillMany([{ key, value, ttlMs, permit }]))[0]!;

    /** Changes the entry, so use it last. */
    const observe = async (): Promise<string> => {
      const found = await read();
      if (found.kind === 'hit') {
        return `value ${found.value}`;
      }
      if ((await read(LONG)).kind === 'leased') {
        return 'absent';
      }
      return (await fill(await guard(), 'probe')) ? 'leased' : 'locked';
    };

    const given: Record<State, () => Promise<void>> = {
      absent: async () => {},
      leased: async () => void (await lease()),
      locked: () => store.lockMany([entry], 'writer', LONG),
      value: async () => void (await fill(await guard(), 'old')),
    };

    it('says what it can do', () => {
      expect(store.capabilities.softLocks).toBe(softLocks);
    });

    describe('the state table', () => {
      it.each(
        rows([
          ['absent', { kind: 'miss' }, 'absent'],
          ['leased', { kind: 'miss' }, 'leased'],
          ['locked', { kind: 'miss' }, 'locked'],
          ['value', { kind: 'hit', value: 'old' }, 'value old'],
        ] as const),
      )('a read of an entry that is %s', async (state, result, after) => {
        await given[state]();
        expect(await read()).toEqual(result);
        expect(await observe()).toBe(after);
      });

      it.each(
        rows([
          ['absent', { kind: 'leased', token: expect.stringMatching(/./) }, 'leased'],
          ['leased', { kind: 'miss' }, 'leased'],
          ['locked', { kind: 'miss' }, 'locked'],
          ['value', { kind: 'hit', value: 'old' }, 'value old'],
        ] as const),
      )('a read that asks for a lease of an entry that is %s', async (state, result, after) => {
        await given[state]();
        expect(await read(LONG)).toEqual(result);
        expect(await observe()).toBe(after);
      });

      // How an entry gets from this reader's lease to the state in which the fill finds it.
      const afterLease: Record<State, () => Promise<void>> = {
        absent: () => store.evictMany([entry]),
        leased: async () => {},
        locked: given.locked,
        value: given.value,
      };

      it.each(
        rows([
          ['absent', false, 'absent'],
          ['leased', true, 'value new'],
          ['locked', false, 'locked'],
          ['value', false, 'value old'],
        ] as const),
      )('a fill under a lease of an entry that is %s', async (state, written, after) => {
        const permit = await lease();
        await afterLease[state]();
        expect(await fill(permit, 'new')).toBe(written);
        expect(await observe()).toBe(after);
      });

      it.each(
        rows([
          ['absent', 'absent'],
          ['leased', 'absent'],
          ['locked', 'locked'],
          ['value', 'value old'],
        ] as const),
      )('a lease given back when the entry is %s', async (state, after) => {
        const permit = await lease();
        await afterLease[state]();
        expect(await fill(permit, undefined)).toBe(false);
        expect(await observe()).toBe(after);
      });

      it.each(
        rows([
          ['absent', true, 'value new'],
          ['leased', true, 'value new'],
          ['locked', false, 'locked'],
          ['value', true, 'value new'],
        ] as const),
      )('a fill under a guard of an entry that is %s', async (state, written, after) => {
        await given[state]();
        expect(await fill(await guard(), 'new')).toBe(written);
        expect(await observe()).toBe(after);
      });

      it.each(
        rows([
          ['absent', 'absent'],
          ['leased', 'leased'],
          ['locked', 'locked'],
          ['value', 'value old'],
        ] as const),
      )('a fill without a value under a guard changes nothing when the entry is %s', async (state, after) => {
        await given[state]();
        expect(await fill(await guard(), undefined)).toBe(false);
        expect(await observe()).toBe(after);
      });

      it.each(states)('a lock of an entry that is %s', async (state) => {
        await given[state]();
        await store.lockMany([entry], 'another writer', LONG);
        expect(await observe()).toBe(softLocks ? 'locked' : 'absent');
      });

      it.each(
        rows([
          ['absent', 'absent'],
          ['leased', 'absent'],
          ['locked', 'value committed'],
          ['value', 'absent'],
        ] as const),
      )('a release with a value of an entry that is %s', async (state, after) => {
        await given[state]();
        await store.releaseMany([{ ...entry, value: 'committed', ttlMs: LONG }], 'writer');
        expect(await observe()).toBe(after);
      });

      it.each(states)('a release without a value of an entry that is %s', async (state) => {
        await given[state]();
        await store.releaseMany([entry], 'writer');
        expect(await observe()).toBe('absent');
      });

      it.each(
        rows([
          ['absent', 'absent'],
          ['leased', 'absent'],
          ['locked', 'locked'],
          ['value', 'absent'],
        ] as const),
      )('an evict of an entry that is %s', async (state, after) => {
        await given[state]();
        await store.evictMany([entry]);
        expect(await observe()).toBe(after);
      });

      it.each(
        rows([
          ['absent', 'absent'],
          ['leased', 'absent'],
          ['locked', 'locked'],
          ['value', 'absent'],
        ] as const),
      )('a clear of an entry that is %s', async (state, after) => {
        await given[state]();
        await store.clear(region);
        expect(await observe()).toBe(after);
      });
    });

    if (softLocks) {
      describe('soft locks', () => {
        const releaseWith = (value: string, holder: string) =>
          store.releaseMany([{ ...entry, value, ttlMs: LONG }], holder);

        it.each([
          ['first', 'a', 'b'],
          ['second', 'b', 'a'],
        ])(
          'of two holders last until both are released, and neither writes through (the %s first)',
          async (_, x, y) => {
            await store.lockMany([entry], 'a', LONG);
            await store.lockMany([entry], 'b', LONG);
            await releaseWith('row', x);
            expect(await read(LONG)).toEqual({ kind: 'miss' });
            await releaseWith('row', y);
            expect(await observe()).toBe('absent');
          },
        );

        it('let the next writer write through again', async () => {
          await store.lockMany([entry], 'a', LONG);
          await store.lockMany([entry], 'b', LONG);
          await store.releaseMany([entry], 'a');
          await store.releaseMany([entry], 'b');
          await store.lockMany([entry], 'c', LONG);
          await releaseWith('row', 'c');
          expect(await observe()).toBe('value row');
        });

        it('taken twice by one holder are one lock, which lasts as long as the longer one', async () => {
          await store.lockMany([entry], 'a', LONG);
          await store.lockMany([entry], 'a', SHORT);
          await sleep(AFTER_SHORT);
          expect(await read(LONG)).toEqual({ kind: 'miss' });
          await releaseWith('row', 'a');
          expect(await observe()).toBe('value row');
        });

        it('of a holder that died run out', async () => {
          await store.lockMany([entry], 'dead', SHORT);
          await sleep(AFTER_SHORT);
          expect(await observe()).toBe('absent');
        });

        it('of a holder that died do not count for the other, which may not write through', async () => {
          await store.lockMany([entry], 'dead', BRIEF);
          await store.lockMany([entry], 'alive', LONG);
          await sleep(AFTER_BRIEF);
          expect(await read(LONG)).toEqual({ kind: 'miss' });
          await releaseWith('row', 'alive');
          expect(await observe()).toBe('absent');
        });

        it('of a second holder that died keep the first from writing through all the same', async () => {
          await store.lockMany([entry], 'alive', LONG);
          await store.lockMany([entry], 'dead', SHORT);
          await sleep(AFTER_SHORT);
          await releaseWith('row', 'alive');
          expect(await observe()).toBe('absent');
        });

        it('of a holder that died first leave the entry as if it had never been locked', async () => {
          await store.lockMany([entry], 'dead', SHORT);
          await sleep(AFTER_SHORT);
          await store.lockMany([entry], 'alive', LONG);
          await releaseWith('row', 'alive');
          expect(await observe()).toBe('value row');
        });

        it('that ran out do not write through', async () => {
          await store.lockMany([entry], 'slow', SHORT);
          await sleep(AFTER_SHORT);
          await releaseWith('row', 'slow');
          expect(await observe()).toBe('absent');
        });

        it('that ran out are released after all, and then nobody else writes through', async () => {
          await store.lockMany([entry], 'slow', SHORT);
          await sleep(AFTER_SHORT);
          await store.lockMany([entry], 'next', LONG);
          await releaseWith('older row', 'slow');
          expect(await read(LONG)).toEqual({ kind: 'miss' });
          await releaseWith('newer row', 'next');
          expect(await observe()).toBe('absent');
        });

        it.each([
          ['an evict', () => store.evictMany([entry])],
          ['a clear', () => store.clear(region)],
        ])('outlast %s, but do not write through after it', async (_, evict) => {
          await store.lockMany([entry], 'a', LONG);
          await evict();
          await store.lockMany([entry], 'a', LONG);
          expect(await read(LONG)).toEqual({ kind: 'miss' });
          await releaseWith('row', 'a');
          expect(await observe()).toBe('absent');
        });
      });
    }

    if (!softLocks) {
      describe('without soft locks', () => {
        it('two writers of one entry both evict it, and neither writes through', async () => {
          for (const writer of ['a', 'b']) {
            await fill(await guard(), 'old');
            await store.lockMany([entry], writer, LONG);
            expect(await read()).toEqual({ kind: 'miss' });
          }
          for (const writer of ['a', 'b']) {
            await fill(await guard(), 'between');
            await store.releaseMany([{ ...entry, value: writer, ttlMs: LONG }], writer);
            expect(await observe()).toBe('absent');
          }
        });

        it('what a reader leased or guarded after the lock does not fill after the release', async () => {
          await store.lockMany([entry], 'writer', LONG);
          const permits = [await lease(), await guard()];
          await store.releaseMany([entry], 'writer');
          for (const permit of permits) {
            expect(await fill(permit, 'old')).toBe(false);
          }
        });
      });
    }

    describe('leases and guards', () => {
      const steps = {
        'a lock': () => store.lockMany([entry], 'writer', LONG),
        'a lock and its release': async () => {
          await store.lockMany([entry], 'writer', LONG);
          await store.releaseMany([entry], 'writer');
        },
        'a lock and its write-through': async () => {
          await store.lockMany([entry], 'writer', LONG);
          await store.releaseMany([{ ...entry, value: 'new', ttlMs: LONG }], 'writer');
        },
        'a release without a lock': () => store.releaseMany([entry], 'writer'),
        'an evict': () => store.evictMany([entry]),
        'a clear': () => store.clear(region),
        'the loss of everything': () => subject.loseEverything(),
      };

      describe.each(Object.entries(steps))('from before %s', (_, step) => {
        it.each([
          ['lease', () => lease()],
          ['guard', () => guard()],
        ])('do not fill (%s)', async (_kind, permitted) => {
          const permit = await permitted();
          await step();
          expect(await fill(permit, 'old')).toBe(false);
          expect(await read()).not.toEqual({ kind: 'hit', value: 'old' });
        });

        it('do not fill either when somebody began anew since', async () => {
          const oldGuard = await guard();
          const oldLease = await lease();
          await step();
          await guard();
          await read(LONG);
          expect(await fill(oldLease, 'old')).toBe(false);
          expect(await fill(oldGuard, 'old')).toBe(false);
        });
      });

      it('that ran out do not fill', async () => {
        const permits = [await lease(SHORT), await guard(SHORT)];
        await sleep(AFTER_SHORT);
        for (const permit of permits) {
          expect(await fill(permit, 'old')).toBe(false);
        }
        expect(await observe()).toBe('absent');
      });

      it('do not fill after a lock that nobody released, not even when it ran out', async () => {
        const leased = await lease(LONG);
        await store.lockMany([entry], 'dead', SHORT);
        const guarded = await guard(SHORT / 2);
        await sleep(AFTER_SHORT);
        expect(await fill(leased, 'old')).toBe(false);
        expect(await fill(guarded, 'old')).toBe(false);
      });

      it('belong to one reader', async () => {
        const permit = await lease(SHORT);
        await sleep(AFTER_SHORT);
        await lease();
        expect(await fill(permit, 'old')).toBe(false);
        expect(await observe()).toBe('leased');
      });

      it('fill once', async () => {
        const permit = await lease();
        expect(await fill(permit, 'row')).toBe(true);
        expect(await fill(permit, 'again')).toBe(false);
        expect(await observe()).toBe('value row');
      });

      it('of a key are worth nothing for another', async () => {
        const token = await lease(LONG, `${region}:other`);
        expect(await fill(token, 'row')).toBe(false);
        expect(await fill({ kind: 'lease', token: '' }, 'row')).toBe(false);
        expect(await fill({ kind: 'lease', token: '1' }, 'row')).toBe(false);
      });

      it.each(['a release', 'an evict'] as const)(
        'a guard is void after %s of another key of its region',
        async (move) => {
          const permit = await guard();
          const other = { key: `${region}:other`, region };
          await (move === 'a release' ? store.releaseMany([other], 'writer') : store.evictMany([other]));
          expect(await fill(permit, 'old')).toBe(false);
        },
      );

      it('a guard outlasts what happens in other regions, reads, fills and locks of other keys', async () => {
        const permit = await guard();
        const other = `${subject.prefix}user`;
        await store.releaseMany([{ key: `${other}:1`, region: other }], 'writer');
        await store.evictMany([{ key: `${other}:1`, region: other }]);
        await store.clear(`${other}:`);
        if (softLocks) {
          await store.lockMany([{ key: `${region}:2`, region }], 'writer', LONG);
        }
        await read(LONG, `${region}:3`);
        expect(await fill(await guard(), 'row')).toBe(true);
        expect(await fill(permit, 'row again')).toBe(true);
      });

      it.each(['', 'x', ':', '1', 'x:9999999999999', '0:9999999999999'])(
        'a guard that was never given, %p, fills nothing, whether there is a sequence or not',
        async (sequence) => {
          expect(await fill({ kind: 'guard', region, sequence }, 'row')).toBe(false);
          await guard();
          expect(await fill({ kind: 'guard', region, sequence }, 'row')).toBe(false);
        },
      );
    });

    describe('an emptied store', () => {
      it('removes what was filled meanwhile when the lock that it lost is released', async () => {
        await store.lockMany([entry], 'writer', LONG);
        await subject.loseEverything();
        const permit = await lease();
        await fill(permit, 'before the commit');
        await store.releaseMany([{ ...entry, value: 'committed', ttlMs: LONG }], 'writer');
        expect(await observe()).toBe('absent');
      });

      it('refuses what was leased between the loss and the release of a lost lock', async () => {
        await store.lockMany([entry], 'writer', LONG);
        await subject.loseEverything();
        const permits = [await lease(), await guard()];
        await store.releaseMany([entry], 'writer');
        for (const permit of permits) {
          expect(await fill(permit, 'before the commit')).toBe(false);
        }
      });

      it('keeps a second writer from writing through once the first, whose lock was lost, is back', async () => {
        await store.lockMany([entry], 'first', LONG);
        await subject.loseEverything();
        await store.lockMany([entry], 'second', LONG);
        await store.releaseMany([{ ...entry, value: 'row', ttlMs: LONG }], 'first');
        await store.releaseMany([{ ...entry, value: 'row', ttlMs: LONG }], 'second');
        expect(await observe()).toBe('absent');
      });
    });

    describe('time', () => {
      const put: Record<string, () => Promise<unknown>> = {
        'filled under a lease': async () => fill(await lease(), 'row', BRIEF),
        'filled under a guard': async () => fill(await guard(), 'row', BRIEF),
        ...(softLocks && {
          'written through': async () => {
            await store.lockMany([entry], 'writer', LONG);
            await store.releaseMany([{ ...entry, value: 'row', ttlMs: BRIEF }], 'writer');
          },
        }),
      };

      it.each(Object.entries(put))('ends values that were %s', async (_, write) => {
        await write();
        expect(await read()).toEqual({ kind: 'hit', value: 'row' });
        await sleep(AFTER_BRIEF);
        expect(await observe()).toBe('absent');
      });

      it('ends leases', async () => {
        await lease(SHORT);
        await sleep(AFTER_SHORT);
        expect(await observe()).toBe('absent');
      });

      it.each([0, -1, NaN, Infinity, 1e13])('must be given in sensible durations, not %p', async (ms) => {
        const error = expect.objectContaining({ code: 'PLUS_CONFIGURATION' });
        const permit = await guard();
        await expect(store.readMany([key], { leaseMs: ms })).rejects.toEqual(error);
        await expect(store.guard(region, { guardMs: ms })).rejects.toEqual(error);
        await expect(store.fillMany([{ key, value: 'row', ttlMs: ms, permit }])).rejects.toEqual(error);
        await expect(store.lockMany([entry], 'writer', ms)).rejects.toEqual(error);
        await expect(store.releaseMany([{ ...entry, value: 'row', ttlMs: ms }], 'writer')).rejects.toEqual(error);
        await expect(store.releaseMany([{ ...entry, value: 'row' }], 'writer')).rejects.toEqual(error);
        expect(await observe()).toBe('absent');
      });

      it('may be given in fractions', async () => {
        expect(await fill(await lease(LONG + 0.5), 'row', LONG + 0.5)).toBe(true);
        await store.lockMany([entry], 'writer', LONG + 0.5);
        expect(await fill(await guard(LONG + 0.5), 'row')).toBe(!softLocks);
      });
    });

    describe('batches', () => {
      it('of nothing do nothing', async () => {
        expect(await store.readMany([], { leaseMs: LONG })).toEqual([]);
        expect(await store.fillMany([])).toEqual([]);
        await store.lockMany([], 'writer', LONG);
        await store.releaseMany([], 'writer');
        await store.evictMany([]);
      });

      it('answer in the order of what was asked', async () => {
        const user = `${subject.prefix}user`;
        const keys = ['value', 'absent', 'locked', 'leased'].map((state) => `${region}:${state}`);
        const [value, absent, locked, leased] = keys as [string, string, string, string];
        await store.lockMany([{ key: locked, region }], 'writer', LONG);
        await lease(LONG, leased);
        const filled = await store.fillMany([
          { key: locked, value: 'no', ttlMs: LONG, permit: await guard() },
          { key: value, value: 'yes', ttlMs: LONG, permit: await guard() },
          { key: leased, value: 'no', ttlMs: LONG, permit: { kind: 'lease', token: 'not mine' } },
          { key: `${user}:1`, value: 'yes', ttlMs: LONG, permit: await guard(LONG, user) },
          { key: `${user}:2`, value: 'no', ttlMs: LONG, permit: { ...(await guard(LONG, user)), region } as never },
        ]);
        expect(filled).toEqual([!softLocks, true, false, true, false]);
        const ofLocked = softLocks ? 'miss' : 'hit';
        expect((await store.readMany(keys, { leaseMs: LONG })).map(({ kind }) => kind)).toEqual([
          'hit',
          'leased',
          ofLocked,
          'miss',
        ]);
        expect((await store.readMany([absent, ...keys])).map(({ kind }) => kind)).toEqual([
          'miss',
          'hit',
          'miss',
          ofLocked,
          'miss',
        ]);
      });

      it('may name a key twice', async () => {
        const found = await store.readMany([key, key], { leaseMs: LONG });
        expect(found[0]).toEqual(found[1]);
        await store.lockMany([entry, entry], 'writer', LONG);
        await store.releaseMany([entry, entry], 'writer');
        expect(await observe()).toBe('absent');
      });

      it('of 10 000 entries go the whole way', async () => {
        const all = Array.from({ length: 10_000 }, (_, index) => ({ key: `${region}:${index}`, region }));
        const keys = all.map((each) => each.key);
        const kinds = async (leaseMs: number) =>
          new Set((await store.readMany(keys, { leaseMs })).map(({ kind }) => kind));
        const permits = await store.readMany(keys, { leaseMs: LONG });
        const filled = await store.fillMany(
          permits.map((found, index) => ({
            key: keys[index]!,
            value: `row ${index}`,
            ttlMs: LONG,
            permit: { kind: 'lease', token: found.kind === 'leased' ? found.token : '' },
          })),
        );
        expect(filled).toEqual(keys.map(() => true));
        expect(await store.readMany(keys)).toEqual(keys.map((_, index) => ({ kind: 'hit', value: `row ${index}` })));
        await store.lockMany(all, 'writer', LONG);
        expect(await kinds(LONG)).toEqual(new Set([softLocks ? 'miss' : 'leased']));
        await store.releaseMany(
          all.map((each) => ({ ...each, value: 'committed', ttlMs: LONG })),
          'writer',
        );
        expect(await kinds(LONG)).toEqual(new Set([softLocks ? 'hit' : 'leased']));
        await store.evictMany(all);
        expect(await kinds(LONG)).toEqual(new Set(['leased']));
      });
    });

    describe('any text', () => {
      const texts = ['', 'v', 'r', 'w{}', ' ', '\u0000\u0001', '\r\n$-1\r\n', 'žluťoučký 🐎 é é', '{"a":1}', 'nil'];

      it.each([...texts, 'x🐎'.repeat(largeValueBytes / 5)])('is a value (%#)', async (value) => {
        expect(await fill(await lease(), value)).toBe(true);
        expect(await read()).toEqual({ kind: 'hit', value });
        await store.lockMany([entry], 'writer', LONG);
        await store.releaseMany([{ ...entry, value, ttlMs: LONG }], 'writer');
        expect(await read()).toEqual(softLocks ? { kind: 'hit', value } : { kind: 'miss' });
      });

      it('is a key, a region or a holder', async () => {
        const all = texts.map((text) => ({ key: `${region}:key:${text}`, region: `${region}:${text}` }));
        for (const [index, each] of all.entries()) {
          await store.fillMany([
            { key: each.key, value: each.key, ttlMs: LONG, permit: await guard(LONG, each.region) },
          ]);
          const others = all.map((other, position) =>
            position <= index ? { kind: 'hit', value: other.key } : { kind: 'miss' },
          );
          expect(await store.readMany(all.map((other) => other.key))).toEqual(others);
        }
        for (const holder of texts) {
          await store.lockMany(all, holder, LONG);
        }
        for (const holder of texts) {
          expect((await read(LONG, all[0]!.key)).kind).toBe(softLocks ? 'miss' : 'leased');
          await store.releaseMany(all, holder);
        }
        const found = await store.readMany(
          all.map((each) => each.key),
          { leaseMs: LONG },
        );
        expect(found.map(({ kind }) => kind)).toEqual(all.map(() => 'leased'));
      });
    });

    describe('clear', () => {
      it('takes what starts with the prefix, word for word, and nothing else', async () => {
        const names = ['a*', 'ab', 'a?', 'a[bc]', 'a[b', 'a\\', 'a\\*', 'a^', '*', 'a'];
        const entries = names.map((each) => ({
          key: `${subject.prefix}${each}:1`,
          region: `${subject.prefix}${each}`,
        }));
        for (const [index, cleared] of entries.entries()) {
          const guards = await Promise.all(entries.map((each) => guard(LONG, each.region)));
          const fills = entries.map((each, at) => ({ key: each.key, value: 'x', ttlMs: LONG, permit: guards[at]! }));
          await store.fillMany(fills);
          await store.clear(`${cleared.region}:`);
          const kinds = (await store.readMany(entries.map((each) => each.key))).map(({ kind }) => kind);
          expect(kinds).toEqual(names.map((_, at) => (at === index ? 'miss' : 'hit')));
          expect(await store.fillMany(fills)).toEqual(names.map((_, at) => at !== index));
        }
      });

      it('takes all regions below a prefix', async () => {
        const regions = ['tag', 'user', 'tenant'].map((each) => `${subject.prefix}${each}`);
        const guards = await Promise.all(regions.map((each) => guard(LONG, each)));
        const fills = regions.map((each, at) => ({ key: `${each}:1`, value: 'x', ttlMs: LONG, permit: guards[at]! }));
        await store.fillMany(fills);
        await store.clear(subject.prefix);
        expect(new Set((await store.readMany(fills.map((each) => each.key))).map(({ kind }) => kind))).toEqual(
          new Set(['miss']),
        );
        expect(await store.fillMany(fills)).toEqual([false, false, false]);
      });
    });

    it('gives one lease to many readers at once', async () => {
      const found = await Promise.all(Array.from({ length: 50 }, () => read(LONG)));
      expect(found.filter(({ kind }) => kind === 'leased')).toHaveLength(1);
    });

    it('answers a ping and can be closed twice', async () => {
      await store.ping();
      await store.close();
      await store.close();
    });

    describeStoreModel(() => makeStore(), undefined, softLocks, share);
  });
}
