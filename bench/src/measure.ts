import type { ContenderDefinition } from './contenders/contender.js';
import { contenders, type ContenderName } from './contenders/index.js';
import { seed, type Servers } from './database.js';
import { startCountingProxy } from './load/counting-proxy.js';
import type { Limit, Load, SliceResult } from './load/load.js';
import { ContenderProcess } from './load/process.js';
import type { Progress } from './progress.js';
import type { Entry, Scenario } from './scenarios.js';
import type { Settings } from './settings.js';
import { median, percentile } from './statistics.js';

/** Connections to the database per process, for every contender. */
export const POOL = 16;
/** Rows that the counting pass asks for: few, so that caches hold them after a short while. */
const COUNT_ROWS = 50;

/** Rows that a quick run fills caches with and asks hits for, at most. */
const QUICK_FILL = 500;
/** Names of one call in a quick run, at most. */
const QUICK_BATCH = 1_000;

/** One contender at one number of callers. */
export interface Measurement {
  readonly scenario: string;
  readonly contender: ContenderName;
  readonly callers: number;
  /** Names per second, of each round. */
  readonly throughputs: readonly number[];
  /** In ms, of each round. */
  readonly p50s: readonly number[];
  readonly p99s: readonly number[];
  /** Medians of the rounds. */
  readonly throughput: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of the contender's own processes, per name; the servers' isn't in it. */
  readonly cpuMicroseconds: number;
  /** The highest of its processes, over all rounds. */
  readonly peakMegabytes: number;
  /** Calls that failed, of all rounds, and of how many. */
  readonly errors: number;
  readonly calls: number;
  readonly firstError: string | undefined;
  /** Per name, from a pass of its own through a counting proxy. */
  readonly sqlStatements: number;
  readonly sqlRoundTrips: number;
  readonly redisCommands: number;
  readonly redisRoundTrips: number;
  /** Who answered, for the library: its own counters, over all rounds of the first process. */
  readonly served: Readonly<Record<string, number>>;
}

/** A contender with its processes, and what its slices gave. */
interface Crew {
  readonly entry: Entry;
  readonly processes: readonly ContenderProcess[];
  /** By number of callers, then by round. */
  readonly slices: Map<number, SliceResult[][]>;
  /** The contender's own counters before the first round. */
  served: Readonly<Record<string, number>>;
}

/**
 * Measures a scenario: all contenders are open at once, and take turns in every round (A, B, C, A, B, C, …; each round
 * begins with another one), so that whatever slows the machine for a while slows all of them.
 */
export async function measure(
  scenario: Scenario,
  servers: Servers,
  settings: Settings,
  progress: Progress,
): Promise<Measurement[]> {
  await seed(servers, scenario.rows);
  const crews = scenario.entries.map((entry): Crew => ({
    entry,
    processes: Array.from({ length: scenario.processes }, (_value, index) => crewMember(entry, index, settings)),
    slices: new Map(),
    served: {},
  }));
  try {
    progress.say('warming up');
    await Promise.all(crews.map((crew) => warmUp(crew, scenario, servers, settings)));
    for (let round = 0; round < settings.rounds; round += 1) {
      for (const callers of scenario.callers) {
        progress.say(`round ${round + 1} of ${settings.rounds}, ${callers} callers`);
        for (const index of crews.keys()) {
          const crew = crews[(index + round) % crews.length]!;
          const results = await runOnce(crew, scenario, callers, settings, `r${round}`);
          const slices = crew.slices.get(callers) ?? [];
          crew.slices.set(callers, [...slices, results]);
        }
      }
    }
    progress.say('counting statements');
    return (await Promise.all(crews.map((crew) => summarize(crew, scenario, servers, settings)))).flat();
  } finally {
    const processes = crews.flatMap((crew) => crew.processes);
    await Promise.all(processes.map((process) => (settings.quick ? process.rest() : process.close())));
  }
}

/** Processes that a quick run uses again in the next scenario, by contender and number: most of its time was their start. */
const resting = new Map<string, ContenderProcess>();

function crewMember({ contender }: Entry, index: number, { quick }: Settings): ContenderProcess {
  if (!quick) return new ContenderProcess();
  const name = `${contender} ${index}`;
  const process = resting.get(name) ?? new ContenderProcess();
  resting.set(name, process);
  return process;
}

/** Ends the processes that a quick run has kept. */
export async function endMeasuring(): Promise<void> {
  await Promise.all([...resting.values()].map((process) => process.close()));
  resting.clear();
}

async function warmUp(crew: Crew, scenario: Scenario, servers: Servers, settings: Settings): Promise<void> {
  const { contender } = crew.entry;
  const count = settings.quick ? Math.min(QUICK_FILL, scenario.fill) : scenario.fill;
  for (const process of crew.processes) {
    const environment = { ...servers, pool: POOL, parameters: scenario.parameters ?? {} };
    await process.ask({ kind: 'open', contender, environment });
    await fillCache(process, contender, scenario, { count, isFirst: process === crew.processes[0] });
  }
  const callers = Math.min(16, Math.max(...scenario.callers));
  await runOnce(crew, scenario, callers, settings, 'warm', warmUpLimit(scenario, settings));
  crew.served = await crew.processes[0]!.ask({ kind: 'served' });
}

async function fillCache(
  process: ContenderProcess,
  contender: ContenderName,
  { isSteady }: Scenario,
  { count, isFirst }: { count: number; isFirst: boolean },
): Promise<void> {
  const { fillPasses, warmsUp, holdsRows }: ContenderDefinition = contenders[contender];
  if (!isSteady) {
    for (let pass = 0; pass < fillPasses; pass += 1) await process.ask({ kind: 'fill', count });
    return;
  }
  if (warmsUp && isFirst) await process.ask({ kind: 'warm-up', first: 1, last: count });
  if (fillPasses > 0 && (isFirst || holdsRows)) await process.ask({ kind: 'visit', count });
}

function warmUpLimit({ calls, warmUpCalls }: Scenario, { quick, warmUpMs }: Settings): Limit {
  if (calls !== undefined) return { calls };
  return warmUpCalls === undefined || quick ? { milliseconds: warmUpMs } : { calls: warmUpCalls };
}

function sliceLimit({ calls }: Scenario, { sliceMs }: Settings): Limit {
  return calls === undefined ? { milliseconds: sliceMs } : { calls };
}

/** One slice of one contender, in all its processes at the same time. */
function runOnce(
  { entry, processes }: Crew,
  scenario: Scenario,
  callers: number,
  settings: Settings,
  label: string,
  limit = sliceLimit(scenario, settings),
): Promise<SliceResult[]> {
  const load = loadOf(scenario, entry, callers, settings);
  return Promise.all(
    processes.map((process, index) => {
      const prefix = `${entry.contender}-${callers}-${label}-${index}`;
      // the same seed for every contender: they are all asked for the same names
      const slice = { load, limit, prefix, seed: hash(`${scenario.id}-${callers}-${label}-${index}`) };
      return process.ask({ kind: 'slice', slice });
    }),
  );
}

function loadOf(scenario: Scenario, entry: Entry, callers: number, { quick }: Settings): Load {
  const load = { ...scenario.load, callers, ...entry.load };
  if (!quick) return load;
  const { names } = load;
  const isCached = names.kind === 'existing' && scenario.fill > 0;
  return {
    ...load,
    batch: Math.min(QUICK_BATCH, load.batch),
    names: isCached ? { ...names, count: Math.min(QUICK_FILL, names.count) } : names,
  };
}

async function summarize(crew: Crew, scenario: Scenario, servers: Servers, settings: Settings): Promise<Measurement[]> {
  const [process] = crew.processes;
  const counters = Object.entries(await process!.ask({ kind: 'served' }));
  const served = Object.fromEntries(counters.map(([name, count]) => [name, count - (crew.served[name] ?? 0)]));
  const { contender } = crew.entry;
  await using database = await startCountingProxy(servers.databaseUrl);
  await using redis = await startCountingProxy(servers.redisUrl);
  const environment = {
    databaseUrl: database.url,
    redisUrl: redis.url,
    pool: POOL,
    parameters: scenario.parameters ?? {},
  };
  await process!.ask({ kind: 'open', contender, environment });
  const measurements: Measurement[] = [];
  const fewest = settings.quick ? 20 : 100;
  for (const [callers, rounds] of crew.slices) {
    const load = countingLoad(loadOf(scenario, crew.entry, callers, settings));
    // as many calls again warm up: caches fill, connections open, statements are prepared
    const calls =
      scenario.calls ?? Math.max(load.operation === 'get' || load.operation === 'mixed' ? fewest : 2, load.callers * 2);
    const run = (label: string): Promise<SliceResult> => {
      const slice = { load, limit: { calls }, prefix: `${contender}-${callers}-${label}`, seed: hash(label) };
      return process!.ask({ kind: 'slice', slice });
    };
    for (let pass = 0; scenario.fill > 0 && pass < contenders[contender].fillPasses; pass += 1) {
      await process!.ask({ kind: 'fill', count: COUNT_ROWS });
    }
    if (scenario.calls === undefined) await run('count-warm');
    database.take();
    redis.take();
    const { names, errors } = await run('count');
    const sql = database.take();
    const commands = redis.take();
    const per = (count: number): number => count / Math.max(1, names + errors);
    measurements.push({
      scenario: scenario.id,
      contender,
      callers,
      ...summaryOf(rounds),
      sqlStatements: per(sql.requests),
      sqlRoundTrips: per(sql.roundTrips),
      redisCommands: per(commands.requests),
      redisRoundTrips: per(commands.roundTrips),
      served,
    });
  }
  // before the proxies that its connections go through are gone
  await process!.rest();
  return measurements;
}

function countingLoad(load: Load): Load {
  return load.names.kind === 'existing' && load.operation === 'get'
    ? { ...load, names: { ...load.names, count: Math.min(COUNT_ROWS, load.names.count) } }
    : load;
}

/** @param rounds of each round, the results of all processes */
function summaryOf(rounds: readonly (readonly SliceResult[])[]) {
  const throughputs = rounds.map((results) =>
    results.reduce((sum, { names, elapsedMs }) => sum + (names * 1_000) / elapsedMs, 0),
  );
  const sorted = rounds.map((results) =>
    Float32Array.from(results.flatMap(({ latencies }) => Array.from(latencies))).toSorted(),
  );
  const p50s = sorted.map((latencies) => percentile(latencies, 50));
  const p99s = sorted.map((latencies) => percentile(latencies, 99));
  const all = rounds.flat();
  const total = (of: (result: SliceResult) => number): number => all.reduce((sum, result) => sum + of(result), 0);
  return {
    throughputs,
    p50s,
    p99s,
    throughput: median(throughputs),
    p50Ms: median(p50s),
    p99Ms: median(p99s),
    cpuMicroseconds:
      (total(({ cpuMs }) => cpuMs) * 1_000) /
      Math.max(
        1,
        total(({ names }) => names),
      ),
    peakMegabytes: Math.max(...all.map(({ peakBytes }) => peakBytes)) / 1_048_576,
    errors: total(({ errors }) => errors),
    calls: total(({ latencies, errors }) => latencies.length + errors),
    firstError: all.find(({ firstError }) => firstError)?.firstError,
  };
}

function hash(text: string): number {
  let value = 2_166_136_261;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0)!, 16_777_619);
  return value >>> 0;
}
