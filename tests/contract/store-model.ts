import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { FillEntry, ReadResult } from '../../src/stores/CacheStore.js';
import type { MakeStore, StoreUnderTest } from './store-contract.js';

/**
 * The state table as a program, with time in ticks. Tokens and sequences are numbers; the store's own are kept beside
 * them, as the two can only be compared by what they permit.
 */
class Model {
  tick = 0;
  #last = 0;
  readonly #entries = new Map<string, Entry>();
  readonly #sequences = new Map<string, number>();

  read(key: string, ticks: number | undefined, token: number): ReadResult['kind'] | { value: string } {
    const entry = this.#at(key);
    if (entry.state === 'value') return { value: entry.value };
    if (ticks === undefined || entry.state === 'locked') return 'miss';
    if (entry.state === 'leased') return entry.token === token ? 'leased' : 'miss';
    this.#entries.set(key, { state: 'leased', token, end: this.tick + ticks });
    return 'leased';
  }

  unique(): number {
    return ++this.#last;
  }

  guard(region: string): number {
    const sequence = this.#sequences.get(region) ?? this.unique();
    this.#sequences.set(region, sequence);
    return sequence;
  }

  fill(key: string, permit: ModelPermit, value: string | undefined, ticks: number): boolean {
    const entry = this.#at(key);
    const allowed =
      permit.kind === 'lease'
        ? entry.state === 'leased' && entry.token === permit.token
        : entry.state !== 'locked' && this.#sequences.get(permit.region) === permit.sequence && permit.end > this.tick;
    if (allowed && value !== undefined) this.#entries.set(key, { state: 'value', value, end: this.tick + ticks });
    if (allowed && value === undefined && permit.kind === 'lease') this.#entries.delete(key);
    return allowed && value !== undefined;
  }

  lock(key: string, holder: string, ticks: number): void {
    const entry = this.#at(key);
    const holders = entry.state === 'locked' ? entry.holders : {};
    const sole = entry.state === 'locked' ? entry.sole && holder in holders : true;
    const end = Math.max(this.tick + ticks, holders[holder] ?? 0);
    this.#entries.set(key, { state: 'locked', holders: { ...holders, [holder]: end }, sole });
  }

  release(key: string, region: string, holder: string, value: string | undefined, ticks: number): void {
    this.#sequences.delete(region);
    const entry = this.#at(key);
    this.#entries.delete(key);
    if (entry.state !== 'locked') return;
    const { [holder]: own, ...others } = entry.holders;
    if (Object.keys(others).length > 0) {
      this.#entries.set(key, { state: 'locked', holders: others, sole: false });
    } else if (entry.sole && own !== undefined && value !== undefined) {
      this.#entries.set(key, { state: 'value', value, end: this.tick + ticks });
    }
  }

  evict(key: string, region: string): void {
    this.#sequences.delete(region);
    const entry = this.#at(key);
    if (entry.state === 'locked') this.#entries.set(key, { ...entry, sole: false });
    else this.#entries.delete(key);
  }

  clear(region: string): void {
    this.#sequences.delete(region);
    for (const key of this.#entries.keys()) {
      if (key.startsWith(region)) this.evict(key, region);
    }
  }

  loseEverything(): void {
    this.#entries.clear();
    this.#sequences.clear();
  }

  #at(key: string): Entry | { state: 'absent' } {
    const entry = this.#entries.get(key);
    if (entry?.state !== 'locked') return entry && entry.end > this.tick ? entry : { state: 'absent' };
    const live = Object.entries(entry.holders).filter(([, end]) => end > this.tick);
    return live.length > 0 ? { ...entry, holders: Object.fromEntries(live) } : { state: 'absent' };
  }
}

type Entry =
  | { state: 'leased'; token: number; end: number }
  | { state: 'locked'; holders: Record<string, number>; sole: boolean }
  | { state: 'value'; value: string; end: number };

type ModelPermit = { kind: 'lease'; token: number } | { kind: 'guard'; region: string; sequence: number; end: number };

/** What is short ends within one tick, what is long in none of a test's. */
interface Life {
  readonly ms: number;
  readonly ticks: number;
}
const LONG: Life = { ms: 600_000, ticks: 1_000_000 };
const SHORT: Life = { ms: 150, ticks: 1 };
const TICK_MS = 170;
/** A step that ends later than this after the last tick proves nothing: what is short may have ended, or not. */
const UNSURE_AFTER_MS = 120;
const TICK_AFTER_MS = 40;

type Operation =
  | { op: 'read'; keys: number[]; lease: Life | undefined }
  | { op: 'guard'; region: number; life: Life }
  | { op: 'fill'; fills: { key: number; permit: number; value: string | undefined; life: Life }[] }
  | { op: 'lock'; keys: number[]; holder: string; life: Life }
  | { op: 'release'; keys: number[]; holder: string; value: string | undefined; life: Life }
  | { op: 'evict'; keys: number[] }
  | { op: 'clear'; region: number }
  | { op: 'lose everything' }
  | { op: 'tick' };

const REGIONS = 2;
const KEYS = 4;

function operations(withTime: boolean): fc.Arbitrary<Operation[]> {
  const life = withTime ? fc.constantFrom(SHORT, LONG) : fc.constant(LONG);
  const keys = fc.array(fc.nat(KEYS - 1), { minLength: 1, maxLength: 3 });
  const value = fc.option(fc.string({ maxLength: 3 }), { nil: undefined, freq: 4 });
  const holder = fc.constantFrom('a', 'b', 'c');
  // The newest permit is number 0: most fills should have a chance.
  const permit = fc.oneof({ weight: 3, arbitrary: fc.nat(1) }, fc.nat(20));
  const fills = fc.array(fc.record({ key: fc.nat(KEYS - 1), permit, value, life }), { minLength: 1, maxLength: 3 });
  const op = <T extends Operation['op']>(name: T) => fc.constant(name);
  return fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ op: op('read'), keys, lease: fc.option(life, { nil: undefined, freq: 4 }) }),
      },
      { weight: 3, arbitrary: fc.record({ op: op('guard'), region: fc.nat(REGIONS - 1), life }) },
      { weight: 6, arbitrary: fc.record({ op: op('fill'), fills }) },
      { weight: 5, arbitrary: fc.record({ op: op('lock'), keys, holder, life }) },
      { weight: 5, arbitrary: fc.record({ op: op('release'), keys, holder, value, life }) },
      { weight: 2, arbitrary: fc.record({ op: op('evict'), keys }) },
      { weight: 1, arbitrary: fc.record({ op: op('clear'), region: fc.nat(REGIONS - 1) }) },
      { weight: 1, arbitrary: fc.record({ op: op('lose everything') }) },
      ...(withTime ? [{ weight: 4, arbitrary: fc.record({ op: op('tick') }) }] : []),
    ),
    { maxLength: 40, size: 'max' },
  );
}

/** What operations without an answer answer. */
const NOTHING = [undefined, undefined] as const;

/** One store and the model, side by side. */
class Comparison {
  readonly #model = new Model();
  readonly #permits: { real: FillEntry['permit']; model: ModelPermit }[] = [];
  #lastTick = performance.now();

  constructor(
    readonly subject: StoreUnderTest,
    readonly softLocks: boolean,
  ) {}

  /** Whether the result of the last step counts. */
  get isSure(): boolean {
    return performance.now() - this.#lastTick < UNSURE_AFTER_MS;
  }

  async step(operation: Operation): Promise<void> {
    if (operation.op === 'tick' || performance.now() - this.#lastTick > TICK_AFTER_MS) {
      await this.#tick();
    }
    const [expected, actual] = await this.#apply(operation);
    if (this.isSure) {
      expect(actual).toEqual(expected);
    }
  }

  async #tick(): Promise<void> {
    await sleep(TICK_MS);
    this.#model.tick += 1;
    this.#lastTick = performance.now();
  }

  async #apply(operation: Operation): Promise<readonly [expected: unknown, actual: unknown]> {
    const { store } = this.subject;
    const model = this.#model;
    switch (operation.op) {
      case 'read': {
        const keys = operation.keys.map((at) => this.#key(at));
        const token = model.unique();
        const found = await store.readMany(keys, operation.lease ? { leaseMs: operation.lease.ms } : {});
        const expected = keys.map((key) => model.read(key, operation.lease?.ticks, token));
        const leased = found.find((each) => each.kind === 'leased');
        if (leased) {
          this.#permits.unshift({ real: { kind: 'lease', token: leased.token }, model: { kind: 'lease', token } });
        }
        return [expected, found.map((each) => (each.kind === 'hit' ? { value: each.value } : each.kind))];
      }
      case 'guard': {
        const region = this.#region(operation.region);
        const real = await store.guard(region, { guardMs: operation.life.ms });
        const end = model.tick + operation.life.ticks;
        this.#permits.unshift({
          real: { kind: 'guard', region, sequence: real },
          model: { kind: 'guard', region, sequence: model.guard(region), end },
        });
        return NOTHING;
      }
      case 'fill': {
        const fills = operation.fills.flatMap(({ key, permit, value, life }) => {
          const permits = this.#permits[permit];
          return permits ? [{ key: this.#key(key), permits, value, life }] : [];
        });
        const actual = await store.fillMany(
          fills.map(({ key, permits, value, life }) => ({ key, permit: permits.real, value, ttlMs: life.ms })),
        );
        return [fills.map((each) => model.fill(each.key, each.permits.model, each.value, each.life.ticks)), actual];
      }
      case 'lock': {
        const { holder, life } = operation;
        await store.lockMany(
          operation.keys.map((at) => this.#entry(at)),
          holder,
          life.ms,
        );
        for (const { key, region } of operation.keys.map((at) => this.#entry(at))) {
          if (this.softLocks) model.lock(key, holder, life.ticks);
          else model.evict(key, region);
        }
        return NOTHING;
      }
      case 'release': {
        const { holder, value, life } = operation;
        const entries = operation.keys.map((at) => this.#entry(at));
        const writeThrough = value === undefined ? {} : { value, ttlMs: life.ms };
        await store.releaseMany(
          entries.map((entry) => ({ ...entry, ...writeThrough })),
          holder,
        );
        entries.forEach(({ key, region }) => model.release(key, region, holder, value, life.ticks));
        return NOTHING;
      }
      case 'evict': {
        const entries = operation.keys.map((at) => this.#entry(at));
        await store.evictMany(entries);
        entries.forEach(({ key, region }) => model.evict(key, region));
        return NOTHING;
      }
      case 'clear': {
        const region = this.#region(operation.region);
        // With its colon: a store that can't list its keys may take more than the prefix otherwise.
        await store.clear(`${region}:`);
        model.clear(region);
        return NOTHING;
      }
      case 'lose everything':
        await this.subject.loseEverything();
        model.loseEverything();
        return NOTHING;
      default:
        return NOTHING;
    }
  }

  #region(at: number): string {
    return `${this.subject.prefix}region${at}`;
  }

  #key(at: number): string {
    return this.#entry(at).key;
  }

  #entry(at: number): { key: string; region: string } {
    const region = this.#region(at % REGIONS);
    return { key: `${region}:${at}`, region };
  }
}

const EVERY_KEY = Array.from({ length: KEYS }, (_, at) => at);

/**
 * Random sequences of operations give the same answers as the model. `afterRun` may look at what they left. Without
 * `softLocks`, a lock is an evict, and so is a release. `share` of the sequences are tried.
 */
export function describeStoreModel(
  makeStore: MakeStore,
  afterRun?: (subject: StoreUnderTest) => Promise<void>,
  softLocks = true,
  share = 1,
): void {
  it.each([
    ['while nothing ends', false, 300 * share],
    ['while things end', true, 40 * share],
  ])('does as the state table says, %s', async (_, withTime, numRuns) => {
    let lastRun: Promise<void> = Promise.resolve();
    let isOver = false;
    const run = async (sequence: Operation[]): Promise<void> => {
      const subject = await makeStore();
      try {
        const comparison = new Comparison(subject, softLocks);
        for (const operation of sequence) {
          if (isOver) return;
          await comparison.step(operation);
          if (!comparison.isSure) return;
        }
        await comparison.step({ op: 'read', keys: EVERY_KEY, lease: undefined });
        await afterRun?.(subject);
        await comparison.step({ op: 'read', keys: EVERY_KEY, lease: LONG });
      } finally {
        await subject.dispose();
      }
    };
    try {
      await fc.assert(
        fc.asyncProperty(operations(withTime), (sequence) => (lastRun = run(sequence))),
        // Shrinking a counterexample takes long where things end; what was found by then is reported.
        { numRuns, interruptAfterTimeLimit: 45_000 },
      );
    } finally {
      // an interrupted run goes on by itself, and could empty the store under the next test
      isOver = true;
      await lastRun.catch(() => undefined);
    }
  });
}
