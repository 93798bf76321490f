import { contenders, type ContenderName } from './contenders/index.js';
import type { Environment } from './contenders/contender.js';
import { emptyRedis, grow, seed, seedWide, type Servers } from './database.js';
import type { Limit, Load, SliceResult } from './load/load.js';
import { ContenderProcess } from './load/process.js';
import { POOL } from './measure.js';
import type { Progress } from './progress.js';
import type { Settings } from './settings.js';
import { median, percentile } from './statistics.js';

/** One line of a curve. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** How a cost grows with something. */
export interface Curve {
  readonly id: string;
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
}

/** What a family of curves needs to measure itself. */
interface Bench {
  readonly servers: Servers;
  readonly settings: Settings;
  readonly progress: Progress;
}

/** Curves that come out of one measurement. */
export interface CurveFamily {
  readonly id: string;
  measure(bench: Bench): Promise<Curve[]>;
}

const existing = (count: number, callers = 1): Load => ({
  operation: 'get',
  batch: 1,
  callers,
  names: { kind: 'existing', count },
});

/** A process with an open contender. */
async function withContender<T>(
  { servers }: Bench,
  contender: ContenderName,
  parameters: Environment['parameters'],
  work: (process: ContenderProcess) => Promise<T>,
): Promise<T> {
  const process = new ContenderProcess();
  try {
    await process.ask({ kind: 'open', contender, environment: { ...servers, pool: POOL, parameters } });
    return await work(process);
  } finally {
    await process.close();
  }
}

/** Lets a contender's cache hold the first rows. */
async function fill(process: ContenderProcess, contender: ContenderName, count: number): Promise<void> {
  for (let pass = 0; pass < contenders[contender].fillPasses; pass += 1) await process.ask({ kind: 'fill', count });
}

/** How long a slice of a curve takes, at most: a curve is for its shape, and has many points. */
const SLICE_MS = 250;

/** As many slices as there are rounds, after one that warms up. */
async function slices(
  { settings }: Bench,
  process: ContenderProcess,
  load: Load,
  limit?: Limit,
): Promise<SliceResult[]> {
  const results: SliceResult[] = [];
  for (let round = -1; round < settings.rounds; round += 1) {
    const prefix = `growth-${load.callers}-${load.batch}-${round}-${Math.random().toString(36).slice(2)}`;
    const slice = {
      load,
      limit: limit ?? { milliseconds: Math.min(SLICE_MS, settings.sliceMs) },
      prefix,
      seed: round + 2,
    };
    const result = await process.ask({ kind: 'slice', slice });
    if (result.errors > 0) throw new Error(`${result.errors} calls failed: ${result.firstError}`);
    if (round >= 0) results.push(result);
  }
  return results;
}

const p50Microseconds = (results: readonly SliceResult[]): number =>
  median(results.map(({ latencies }) => percentile(latencies.toSorted(), 50))) * 1_000;
const p99Milliseconds = (results: readonly SliceResult[]): number =>
  median(results.map(({ latencies }) => percentile(latencies.toSorted(), 99)));
const namesPerSecond = (results: readonly SliceResult[]): number =>
  median(results.map(({ names, elapsedMs }) => (names * 1_000) / elapsedMs));

/** The latency of a hit, with ever more rows in the cache. */
const cachedRows: CurveFamily = {
  id: 'cached-rows',
  async measure(bench) {
    const sizes = bench.settings.quick ? [500, 2_000] : [1_000, 10_000, 100_000, bench.settings.cachedRows];
    const series: Series[] = [];
    for (const [contender, name] of [
      ['plusMemory', 'memory store'],
      ['plusRedis', 'Redis'],
    ] as const) {
      await seed(bench.servers, 1);
      // a row takes two entries, its own and its lookup's
      const points = await withContender(bench, contender, { maxEntries: 2_100_000 }, async (process) => {
        const measured: [number, number][] = [];
        let rows = 1;
        for (const size of sizes) {
          bench.progress.say(`${size.toLocaleString('en')} rows, ${name}`);
          await grow(bench.servers, rows + 1, size);
          await process.ask({ kind: 'warm-up', first: rows === 1 ? 1 : rows + 1, last: size });
          rows = size;
          measured.push([size, p50Microseconds(await slices(bench, process, existing(size)))]);
        }
        return measured;
      });
      series.push({ name, points });
    }
    return [{ id: 'cached-rows', title: 'A hit, by rows in the cache', x: 'cached rows', y: 'p50, µs', series }];
  },
};

/** Throughput and latency, with ever more callers at once. */
const callers: CurveFamily = {
  id: 'callers',
  async measure(bench) {
    const counts = bench.settings.quick ? [1, 16, 256] : [1, 2, 4, 8, 16, 32, 64, 128, 256];
    const throughput: Series[] = [];
    const tail: Series[] = [];
    await seed(bench.servers, 1_000);
    for (const [contender, name] of [
      ['plusNear', 'near cache'],
      ['plusRedis', 'Redis'],
      ['plusDatabase', 'database'],
      ['rawPg', 'pg, prepared select'],
    ] as const) {
      await withContender(bench, contender, {}, async (process) => {
        await fill(process, contender, 1_000);
        const perSecond: [number, number][] = [];
        const p99: [number, number][] = [];
        for (const count of counts) {
          bench.progress.say(`${count} callers, ${name}`);
          const results = await slices(bench, process, existing(1_000, count));
          perSecond.push([count, namesPerSecond(results)]);
          p99.push([count, p99Milliseconds(results)]);
        }
        throughput.push({ name, points: perSecond });
        tail.push({ name, points: p99 });
      });
    }
    const x = 'concurrent callers';
    return [
      { id: 'callers', title: 'Hits per second, by concurrent callers', x, y: 'calls per second', series: throughput },
      { id: 'callers-p99', title: 'p99 of a hit, by concurrent callers', x, y: 'p99, ms', series: tail },
    ];
  },
};

/** The cost of a key, and the memory of the process, with ever more keys in one call. */
const keysPerCall: CurveFamily = {
  id: 'keys-per-call',
  async measure(bench) {
    const sizes = bench.settings.quick ? [1, 100, 5_000] : [1, 10, 100, 1_000, 10_000, 100_000];
    const largest = sizes.at(-1)!;
    const cost: Series[] = [];
    const memory: Series[] = [];
    for (const [contender, name] of [
      ['plusDatabase', 'getOrCreateMany'],
      ['rawPg', 'pg with unnest'],
    ] as const) {
      await seed(bench.servers, largest);
      await withContender(bench, contender, {}, async (process) => {
        const perKey: [number, number][] = [];
        const peak: [number, number][] = [];
        for (const size of sizes) {
          bench.progress.say(`${size.toLocaleString('en')} keys, ${name}`);
          const load: Load = {
            operation: 'many',
            batch: size,
            callers: 1,
            names: { kind: 'half-new', count: largest },
          };
          const limit = size >= 1_000 ? { calls: 1 } : undefined;
          const results = await slices(bench, process, load, limit);
          perKey.push([size, p50Microseconds(results) / size]);
          peak.push([size, median(results.map(({ peakBytes }) => peakBytes)) / 1_048_576]);
        }
        cost.push({ name, points: perKey });
        memory.push({ name, points: peak });
      });
    }
    const x = 'keys per call, half of them new';
    return [
      { id: 'keys-per-call', title: 'Cost of a key, by keys per getOrCreateMany', x, y: 'µs per key', series: cost },
      { id: 'keys-memory', title: 'Peak memory, by keys per getOrCreateMany', x, y: 'resident MB', series: memory },
    ];
  },
};

/** The latency of a hit, with ever more columns. */
const columns: CurveFamily = {
  id: 'columns',
  async measure(bench) {
    const { servers, progress } = bench;
    const counts = bench.settings.quick ? [2, 40] : [2, 5, 10, 20, 40];
    for (const count of counts) await seedWide(servers, count, 1_000);
    await emptyRedis(servers);
    const series: Series[] = [];
    for (const [contender, name] of [
      ['plusMemory', 'memory store'],
      ['plusRedis', 'Redis'],
      ['plusDatabase', 'database'],
    ] as const) {
      const points: [number, number][] = [];
      await withContender(bench, contender, { columns: counts[0]! }, async (process) => {
        for (const count of counts) {
          progress.say(`${count} columns, ${name}`);
          const environment = { ...servers, pool: POOL, parameters: { columns: count } };
          await process.ask({ kind: 'open', contender, environment });
          await fill(process, contender, 1_000);
          points.push([count, p50Microseconds(await slices(bench, process, existing(1_000)))]);
        }
      });
      series.push({ name, points });
    }
    return [{ id: 'columns', title: 'A hit, by columns of the entity', x: 'columns', y: 'p50, µs', series }];
  },
};

/** The live heap of a process whose region is larger than its near cache. */
const nearCacheBound: CurveFamily = {
  id: 'near-cache-bound',
  async measure(bench) {
    const sizes = bench.settings.quick ? [500, 4_000] : [500, 1_000, 2_000, 8_000, 32_000, 128_000];
    await seed(bench.servers, sizes.at(-1)!);
    const points = await withContender(bench, 'plusNear', { nearCacheEntries: 1_000 }, async (process) => {
      const measured: [number, number][] = [];
      for (const size of sizes) {
        bench.progress.say(`${size.toLocaleString('en')} rows`);
        await fill(process, 'plusNear', size);
        await slices(bench, process, existing(size, 16));
        measured.push([size, (await process.ask({ kind: 'heap' })) / 1_048_576]);
      }
      return measured;
    });
    return [
      {
        id: 'near-cache-bound',
        title: 'Live heap, by rows asked for, with a near cache of 1,000 entries',
        x: 'rows of the region that are asked for',
        y: 'MB after a garbage collection',
        series: [{ name: 'near cache', points }],
      },
    ];
  },
};

/** How the cost grows, in the order of the report. */
export const curveFamilies: readonly CurveFamily[] = [cachedRows, callers, keysPerCall, columns, nearCacheBound];
