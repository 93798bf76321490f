import type { CacheStore, FillEntry, LockEntry, ReadOptions, ReadResult, ReleaseEntry } from '../../../src/index.js';

export type Operation = 'readMany' | 'guard' | 'fillMany' | 'lockMany' | 'releaseMany' | 'evictMany' | 'clear' | 'ping';

/** Which entries of a call: rows, or lookups (which lead to a primary key). */
type About = 'rows' | 'hints';

/** A call of the store that stands still until it is told to go on. */
export interface Gate {
  /** Fulfilled when the call is there. */
  readonly reached: Promise<void>;
  open(): void;
}

interface Pause {
  readonly operation: Operation;
  readonly about: About;
  readonly when: 'before' | 'after';
  readonly reach: () => void;
  readonly opened: Promise<void>;
}

/** A real store whose operations a test can count, pause, delay, fail, or leave without an answer. */
export class ControlledStore implements CacheStore {
  readonly capabilities;
  readonly #store: CacheStore;
  readonly #pauses: Pause[] = [];
  readonly #waiting = new Set<() => void>();
  #trouble: 'none' | 'failing' | 'hanging' = 'none';
  #troubled: ReadonlySet<Operation> | undefined;
  #delayMs = 0;
  #tamper: ((value: string) => string) | undefined;
  #calls: Operation[] = [];

  constructor(store: CacheStore) {
    this.#store = store;
    this.capabilities = store.capabilities;
  }

  /** The operations since the last call, which it forgets. */
  takeCalls(): Operation[] {
    return this.#calls.splice(0);
  }

  /** The next call of `operation` stands still, before the store sees it or before its answer is seen. */
  pauseNext(operation: Operation, options: { about?: About; when?: 'before' | 'after' } = {}): Gate {
    const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
    const { promise: opened, resolve: open } = Promise.withResolvers<void>();
    this.#pauses.push({ operation, about: options.about ?? 'rows', when: options.when ?? 'before', reach, opened });
    return { reached, open };
  }

  /** Drops pauses that no call has come to. */
  dropPauses(): void {
    this.#pauses.length = 0;
  }

  /** From now on `operations` (default: all) are rejected at once, without reaching the store. */
  fail(...operations: Operation[]): void {
    this.#setTrouble('failing', operations);
  }

  /** From now on `operations` (default: all) are never answered, and don't reach the store. */
  hang(...operations: Operation[]): void {
    this.#setTrouble('hanging', operations);
  }

  /** From now on every value of a row comes out of the store changed. */
  tamperWith(change: ((value: string) => string) | undefined): void {
    this.#tamper = change;
  }

  /** Every operation takes this much longer. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Ends all trouble; what is left without an answer goes on. */
  heal(): void {
    this.#trouble = 'none';
    this.#delayMs = 0;
    for (const goOn of this.#waiting) goOn();
    this.#waiting.clear();
  }

  /** Like {@link heal}, but what is left without an answer never gets one. */
  healForgetting(): void {
    this.#waiting.clear();
    this.heal();
  }

  async readMany(keys: readonly string[], options?: ReadOptions): Promise<ReadResult[]> {
    const results = await this.#run('readMany', keys, () => this.#store.readMany(keys, options));
    const tamper = this.#tamper;
    return results.map((result, index) =>
      tamper && result.kind === 'hit' && keys[index]!.includes(':o:')
        ? { ...result, value: tamper(result.value) }
        : result,
    );
  }

  guard(region: string, options?: { guardMs?: number }): Promise<string> {
    return this.#run('guard', [], () => this.#store.guard(region, options));
  }

  fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    return this.#run('fillMany', keysOf(entries), () => this.#store.fillMany(entries));
  }

  lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    return this.#run('lockMany', keysOf(entries), () => this.#store.lockMany(entries, holder, lockMs));
  }

  releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void> {
    return this.#run('releaseMany', keysOf(entries), () => this.#store.releaseMany(entries, holder));
  }

  evictMany(entries: readonly LockEntry[]): Promise<void> {
    return this.#run('evictMany', keysOf(entries), () => this.#store.evictMany(entries));
  }

  clear(prefix: string): Promise<void> {
    return this.#run('clear', [], () => this.#store.clear(prefix));
  }

  ping(): Promise<void> {
    return this.#run('ping', [], () => this.#store.ping());
  }

  async close(): Promise<void> {
    this.heal();
    await this.#store.close();
  }

  #setTrouble(trouble: 'failing' | 'hanging', operations: Operation[]): void {
    this.#trouble = trouble;
    this.#troubled = operations.length > 0 ? new Set(operations) : undefined;
  }

  async #run<T>(operation: Operation, keys: readonly string[], work: () => Promise<T>): Promise<T> {
    this.#calls.push(operation);
    const troubled = !this.#troubled || this.#troubled.has(operation);
    if (troubled && this.#trouble === 'failing') throw new Error(`${operation}: connect ECONNREFUSED`);
    if (troubled && this.#trouble === 'hanging') await new Promise<void>((resolve) => this.#waiting.add(resolve));
    if (this.#delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.#delayMs));
    const pause = this.#takePause(operation, keys);
    if (pause?.when === 'before') await this.#pass(pause);
    const result = await work();
    if (pause?.when === 'after') await this.#pass(pause);
    return result;
  }

  async #pass(pause: Pause): Promise<void> {
    pause.reach();
    await pause.opened;
  }

  #takePause(operation: Operation, keys: readonly string[]): Pause | undefined {
    // rows and lookups that are asked for in one turn may go in one call
    const isAbout = (about: About): boolean =>
      about === 'hints' ? keys.some(isHint) : keys.length === 0 || !keys.every(isHint);
    const index = this.#pauses.findIndex((pause) => pause.operation === operation && isAbout(pause.about));
    return index < 0 ? undefined : this.#pauses.splice(index, 1)[0];
  }
}

function isHint(key: string): boolean {
  return key.includes(':l:');
}

function keysOf(entries: readonly { readonly key: string }[]): string[] {
  return entries.map(({ key }) => key);
}
