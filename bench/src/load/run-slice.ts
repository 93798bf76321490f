import type { Contender } from '../contenders/contender.js';
import type { Slice, SliceResult } from './load.js';
import { resetPeakMemory, peakMemory } from './memory.js';
import { Random, Zipf } from './random.js';

/** Lets the callers of a load loose on a contender, and measures them. */
export async function runSlice(contender: Contender, slice: Slice): Promise<SliceResult> {
  const recorder = new Recorder();
  const names = new NameSource(slice);
  const call = callerOf(contender, slice, names, recorder);
  resetPeakMemory();
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  const isOver = overAfter(slice, startedAt);
  await Promise.all(
    Array.from({ length: slice.load.callers }, async () => {
      while (!isOver()) await call();
    }),
  );
  const elapsedMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpu);
  return { ...recorder.result(slice, elapsedMs), cpuMs: (user + system) / 1_000, peakBytes: peakMemory() };
}

function overAfter({ limit }: Slice, startedAt: number): () => boolean {
  if ('milliseconds' in limit) return () => performance.now() - startedAt >= limit.milliseconds;
  let left = limit.calls;
  return () => left-- <= 0;
}

/** One call of the load, which records its own latency or failure. */
function callerOf(
  contender: Contender,
  { load }: Slice,
  names: NameSource,
  recorder: Recorder,
): () => Promise<unknown> {
  const needs = <K extends keyof Contender>(method: K): NonNullable<Contender[K]> => {
    if (!contender[method]) throw new Error(`This contender has no ${method}()`);
    return contender[method];
  };
  switch (load.operation) {
    case 'get':
      return () => recorder.time(1, contender.getOrCreate, names.next());
    case 'many': {
      const many = needs('getOrCreateMany');
      return () => recorder.time(load.batch, many, names.batch(load.batch));
    }
    case 'race':
      return () => {
        const name = names.next();
        return Promise.all(Array.from({ length: load.batch }, () => recorder.time(1, contender.getOrCreate, name)));
      };
    case 'mixed': {
      const update = needs('update');
      return () => {
        const name = names.next();
        return names.isUpdate ? recorder.time(1, update, name) : recorder.time(1, contender.getOrCreate, name);
      };
    }
    case 'flush':
    default: {
      const prepareFlush = needs('prepareFlush');
      return async () => {
        const flush = await prepareFlush(names.next());
        return recorder.time(1, flush);
      };
    }
  }
}

class Recorder {
  readonly #latencies: number[] = [];
  #names = 0;
  #errors = 0;
  #firstError: string | undefined;

  /** Makes a call, and records how long it takes. */
  async time<A extends unknown[]>(names: number, call: (...args: A) => Promise<unknown>, ...args: A): Promise<void> {
    const startedAt = performance.now();
    try {
      await call(...args);
      this.#latencies.push(performance.now() - startedAt);
      this.#names += names;
    } catch (error) {
      this.#errors += 1;
      this.#firstError ??= String(error).slice(0, 300);
    }
  }

  result({ load }: Slice, elapsedMs: number): Omit<SliceResult, 'cpuMs' | 'peakBytes'> {
    const latencies = Float32Array.from(this.#latencies);
    const busyMs = latencies.reduce((sum, latency) => sum + latency, 0) / load.callers;
    return {
      names: this.#names,
      errors: this.#errors,
      firstError: this.#firstError,
      elapsedMs: load.operation === 'flush' ? busyMs : elapsedMs,
      latencies,
    };
  }
}

/** The names that a load asks for, one after the other. */
class NameSource {
  readonly #slice: Slice;
  readonly #random: Random;
  readonly #zipf: Zipf | undefined;
  #made = 0;
  #drawn = 0;
  isUpdate = false;

  constructor(slice: Slice) {
    this.#slice = slice;
    this.#random = new Random(slice.seed);
    const { names } = slice.load;
    if (names.kind === 'mixed') this.#zipf = zipfOf(names.count);
  }

  next(): string {
    const { names } = this.#slice.load;
    this.#drawn += 1;
    switch (names.kind) {
      case 'existing':
        return `k${this.#random.whole(names.count)}`;
      case 'new':
        return this.#new();
      case 'half-new':
        return this.#drawn % 2 === 0 ? this.#new() : `k${this.#random.whole(names.count)}`;
      case 'mixed':
      default: {
        const dice = this.#random.next();
        this.isUpdate = dice >= 0.95 && dice < 0.99;
        return dice >= 0.99 ? this.#new() : `k${this.#zipf!.rank(this.#random)}`;
      }
    }
  }

  /** Distinct names: a batch asks for each once. */
  batch(size: number): string[] {
    const { names } = this.#slice.load;
    if (names.kind === 'new') return Array.from({ length: size }, () => this.#new());
    const first = this.#random.whole(Math.max(1, names.count - size + 1));
    return Array.from({ length: size }, (_value, index) =>
      names.kind === 'half-new' && index % 2 === 1 ? this.#new() : `k${first + index}`,
    );
  }

  #new(): string {
    this.#made += 1;
    return `${this.#slice.prefix}-${this.#made}`;
  }
}

const zipfs = new Map<number, Zipf>();

function zipfOf(count: number): Zipf {
  const known = zipfs.get(count) ?? new Zipf(count);
  zipfs.set(count, known);
  return known;
}
