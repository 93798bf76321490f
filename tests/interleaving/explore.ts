import type { Bench } from './benches.js';
import type { Process, Step } from './processes.js';
import type { Loss } from './state-table.js';
import { World, type Demand } from './world.js';

/** Who runs against each other, and what may happen meanwhile. */
export interface Scenario {
  readonly processes: Readonly<Record<string, Process>>;
  /** Whether the row is in the store at the start. */
  readonly cached?: boolean;
  /** Ticks that may pass. */
  readonly ticks?: number;
  /** How often a store loses something, and what it may be. */
  readonly losses?: number;
  readonly loss?: readonly Loss[];
  /** How many writers may die. After COMMIT that needs no event: who is dead is who takes no further step. */
  readonly deaths?: number;
  /** What is demanded of what is cached. Default: `'sound'`. */
  readonly demand?: Demand;
}

export interface Report {
  states: number;
  transitions: number;
  /** Different orders in which everything can happen, to the end. */
  interleavings: bigint;
  /** The first thing that went wrong, and the shortest way there. */
  violation?: string;
}

interface Runner {
  readonly generator: Generator<Step, void>;
  next: Step | undefined;
  readonly seen: unknown[];
}

/** A scenario under way: what can happen next, and making it happen. */
class Run {
  readonly world: World;
  readonly #runners = new Map<string, Runner>();
  readonly #scenario: Scenario;
  readonly #left: { ticks: number; losses: number; deaths: number };

  constructor(scenario: Scenario, bench: Bench) {
    const { ticks = 0, losses = 0, deaths = 0 } = scenario;
    this.#scenario = scenario;
    this.world = new World(bench, scenario.demand ?? 'sound');
    this.#left = { ticks, losses, deaths };
    for (const [who, process] of Object.entries(scenario.processes)) {
      const generator = process(who);
      this.#runners.set(who, { generator, next: generator.next().value as Step, seen: [] });
    }
  }

  async prepare(): Promise<this> {
    if (this.#scenario.cached) {
      await this.world.guard('setup');
      await this.world.fill('setup', 'guard', 1);
    }
    return this;
  }

  /** In words: `<who> <step>`, or an event that is nobody's. */
  choices(): string[] {
    const { world } = this;
    const choices: string[] = [];
    for (const [who, { next }] of this.#runners) {
      const waits = next?.needsRow && world.rowLock !== undefined && world.rowLock !== who;
      if (!next || waits) continue;
      choices.push(`${who} ${next.name}`);
      if (this.#left.deaths > 0 && world.rowLock === who) choices.push(`${who} dies`);
    }
    for (const name of world.late.keys()) choices.push(`LATE ${name}`);
    if (choices.length === 0) return choices;
    if (this.#left.ticks > 0) choices.push('TIME passes');
    if (this.#left.losses > 0) {
      for (const loss of this.#scenario.loss ?? ['everything']) choices.push(`LOST ${loss}`);
    }
    return choices;
  }

  async take(choice: string): Promise<void> {
    const { world } = this;
    const space = choice.indexOf(' ');
    const [who, what] = [choice.slice(0, space), choice.slice(space + 1)];
    if (who === 'TIME') {
      this.#left.ticks -= 1;
      await world.passTicks(1);
    } else if (who === 'LOST') {
      this.#left.losses -= 1;
      await world.lose(what as Loss);
    } else if (who === 'LATE') {
      const deliver = world.late.get(what)!;
      world.late.delete(what);
      await deliver();
    } else if (what === 'dies') {
      this.#left.deaths -= 1;
      world.rollBack();
      this.#runners.get(who)!.next = undefined;
    } else {
      await this.#advance(this.#runners.get(who)!);
    }
  }

  canonical(): string {
    const live = new Set<string>();
    const positions: unknown[] = [];
    for (const [who, { next, seen }] of this.#runners) {
      if (next) live.add(who);
      positions.push(next ? [next.name, seen] : 'done');
    }
    // a late command is named after who sent it, last
    for (const name of this.world.late.keys()) live.add(name.slice(name.lastIndexOf(' ') + 1));
    return JSON.stringify([positions, this.#left, this.world.canonical(live)]);
  }

  async #advance(runner: Runner): Promise<void> {
    const result = await runner.next!.run(this.world);
    runner.seen.push(result ?? null);
    const { value, done } = runner.generator.next(result);
    runner.next = done ? undefined : value;
  }
}

interface Outcome {
  readonly path: readonly string[];
  readonly state: string;
  readonly choices: readonly string[];
  readonly wrong: string | undefined;
}

/** Goes every way that a scenario can go, states that were seen before excepted, the shortest ways first. */
export async function exploreAll(scenario: Scenario, makeBench: () => Bench, atOnce = 1): Promise<Report> {
  const report: Report = { states: 0, transitions: 0, interleavings: 0n };
  const follow = async (path: readonly string[]): Promise<Outcome> => {
    const bench = makeBench();
    try {
      const run = await new Run(scenario, bench).prepare();
      for (const choice of path) await run.take(choice);
      const wrong = await run.world.violation();
      return { path, state: run.canonical(), choices: run.choices(), wrong };
    } catch (error) {
      return { path, state: '', choices: [], wrong: String(error) };
    } finally {
      await bench.dispose();
    }
  };
  const graph = new Map<string, string[]>();
  const start = await follow([]);
  graph.set(start.state, []);
  let level = [start];
  while (level.length > 0) {
    const ways = level.flatMap(({ path, state, choices }) =>
      choices.map((choice) => ({ state, path: [...path, choice] })),
    );
    level = [];
    for (let at = 0; at < ways.length; at += atOnce) {
      const part = ways.slice(at, at + atOnce);
      const outcomes = await Promise.all(part.map(({ path }) => follow(path)));
      for (const [index, outcome] of outcomes.entries()) {
        report.transitions += 1;
        report.states = graph.size;
        if (outcome.wrong) return { ...report, violation: describe(outcome.path, outcome.wrong) };
        graph.get(part[index]!.state)!.push(outcome.state);
        if (graph.has(outcome.state)) continue;
        graph.set(outcome.state, []);
        level.push(outcome);
      }
    }
  }
  return { ...report, states: graph.size, interleavings: countWays(graph, start.state) };
}

/** Goes `walks` random ways through scenarios. */
export async function exploreSome(
  scenarios: readonly Scenario[],
  walks: number,
  randomOf: (walk: number) => () => number,
  makeBench: () => Bench,
  atOnce: number,
): Promise<Report> {
  const report: Report = { states: 0, transitions: 0, interleavings: 0n };
  const states = new Set<string>();
  const ways = new Set<string>();
  const walk = async (index: number): Promise<string | undefined> => {
    const bench = makeBench();
    const random = randomOf(index);
    const run = await new Run(scenarios[index % scenarios.length]!, bench).prepare();
    const path: string[] = [];
    for (;;) {
      const choices = run.choices();
      if (choices.length === 0) break;
      const choice = choices[Math.floor(random() * choices.length)]!;
      path.push(choice);
      try {
        await run.take(choice);
        const wrong = await run.world.violation();
        if (wrong) return describe(path, wrong);
      } catch (error) {
        return describe(path, String(error));
      }
      report.transitions += 1;
      states.add(`${index % scenarios.length} ${run.canonical()}`);
    }
    ways.add(`${index % scenarios.length} ${path.join()}`);
    await bench.dispose();
    return undefined;
  };
  for (let at = 0; at < walks && !report.violation; at += atOnce) {
    const results = await Promise.all(Array.from({ length: Math.min(atOnce, walks - at) }, (_, i) => walk(at + i)));
    const violation = results.filter((result) => result !== undefined).toSorted((a, b) => a.length - b.length)[0];
    if (violation) report.violation = violation;
  }
  return { ...report, states: states.size, interleavings: BigInt(ways.size) };
}

function describe(path: readonly string[], wrong: string): string {
  return [...path.map((choice, index) => `${index + 1}. ${choice}`), `=> ${wrong}`].join('\n');
}

function countWays(graph: ReadonlyMap<string, readonly string[]>, start: string): bigint {
  const counts = new Map<string, bigint>();
  const count = (state: string): bigint => {
    let ways = counts.get(state);
    if (ways === undefined) {
      const next = graph.get(state)!;
      ways = next.length === 0 ? 1n : next.reduce((sum, each) => sum + count(each), 0n);
      counts.set(state, ways);
    }
    return ways;
  };
  return count(start);
}
