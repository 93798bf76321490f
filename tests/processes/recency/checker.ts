import { setTimeout as sleep } from 'node:timers/promises';
import { newStatistics, sumStatistics } from '../../../src/observability/statistics.js';
import { Member, type CrewSetup, type Incarnation } from './crew.js';
import { inject, weightOf, type FaultKind, type World } from './faults.js';
import { Judge } from './judge.js';
import type { CheckerOptions } from './options.js';
import { nowUp, type Strategy, type WorkerEvent } from './protocol.js';
import { Random } from './random.js';
import type { CheckerReport } from './report.js';
import type { CheckedServers } from './servers.js';
import { onStall } from './stalls.js';
import { Trace } from './trace.js';

/** Short times, so that stops and cuts outlive leases and locks. */
const LEASE_TTL = 300;
const SOFT_LOCK_TTL = 700;
/** Longer than any stop: all that was acknowledged before has arrived by then. */
const SETTLED_US = 5_000_000;

const MAX_STALENESS = 1_000;
/** What a run has to show before it ends. On a busy machine it may take that much longer, without more faults than these. */
const AT_LEAST = { hits: 10, commits: 5, faultKinds: 4 };
const LONGER_MS = 90_000;
/** For a process to end by itself; one may just be starting on a busy machine. */
const FINISH_MS = 60_000;

/** What reads may miss after an acknowledgement. */
const toleranceMs: Readonly<Record<Strategy, number>> = { 'read-write': 0, 'nonstrict-read-write': MAX_STALENESS };

/** Runs the checker once, with servers that nobody else uses meanwhile: processes, faults, judgement. */
export async function runChecker(options: CheckerOptions, servers: CheckedServers): Promise<CheckerReport> {
  if (process.platform !== 'linux') throw new Error('The checker needs one clock for all processes: run it on Linux.');
  await servers.reset();
  const run = new CheckerRun(options, servers);
  try {
    return await run.go();
  } finally {
    await run.leave();
  }
}

class CheckerRun implements World {
  readonly members: Member[] = [];
  readonly servers: CheckedServers;
  readonly random: Random;
  readonly softLockTtl = SOFT_LOCK_TTL;
  readonly #options: CheckerOptions;
  readonly #judge: Judge;
  readonly #trace = new Trace();
  readonly #traces: string[] = [];
  /** Of each kind of finding the first is traced. */
  readonly #traced = new Set<string>();
  readonly #servedBy: Record<string, number> = {};
  readonly #writes: Record<string, number> = {};
  readonly #faults: Record<string, number> = {};
  readonly #readErrors: Record<string, number> = {};
  readonly #writeErrors: Record<string, number> = {};
  readonly #unhandled: string[] = [];
  readonly #traps = new Map<string, (event: Extract<WorkerEvent, { kind: 'trap' }>) => void>();
  #statistics = newStatistics();
  #endsAt = Infinity;
  #isOver = false;
  #isProlonged = false;

  constructor(options: CheckerOptions, servers: CheckedServers) {
    this.#options = options;
    this.servers = servers;
    this.random = new Random(options.seed);
    this.#judge = new Judge(toleranceMs[options.strategy]);
  }

  async go(): Promise<CheckerReport> {
    const { readers, writers, seconds } = this.#options;
    const { redisUrl, databaseUrl } = this.servers;
    for (let index = 0; index < readers + writers; index++) {
      const role = index < readers ? 'reader' : 'writer';
      this.members.push(
        await Member.join(`${role} ${index < readers ? index : index - readers}`, role, redisUrl, databaseUrl),
      );
    }
    if (this.#options.faults.includes('Redis restart')) this.servers.prepareRedis();
    await Promise.all(this.members.map((member) => this.#start(member)));
    this.#endsAt = performance.now() + seconds * 1_000;
    const lastEnd = this.#endsAt + LONGER_MS;
    const prolonging = setInterval(() => {
      const next = performance.now() + 2_000;
      if (next < this.#endsAt || next > lastEnd || this.#hasShownEnough()) return;
      this.#endsAt = next;
      this.#isProlonged = true;
    }, 250);
    // without faults nothing arrives late
    const settledUs = this.#options.faults.length > 0 ? SETTLED_US : SETTLED_US / 5;
    const settling = setInterval(() => this.#settle(nowUp() - settledUs), 500);
    const watching = onStall((from, to) => {
      for (const { incarnation } of this.members) incarnation.stalls.push({ from, to });
    });
    await this.#injectFaults();
    clearInterval(prolonging);
    clearInterval(settling);
    const stuck = await this.#finish();
    clearInterval(watching);
    this.#settle(Infinity);
    return this.#report(stuck);
  }

  async leave(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.members.map((member) => member.leave()));
  }

  tell(text: string): void {
    this.#trace.add('checker', { kind: 'fault', text }, nowUp());
  }

  hasTime(ms: number): boolean {
    return !this.#isOver && performance.now() + ms < this.#endsAt;
  }

  async nextTrap(member: Member, ms: number): Promise<Extract<WorkerEvent, { kind: 'trap' }> | undefined> {
    const fallen = new Promise<Extract<WorkerEvent, { kind: 'trap' }>>((resolve) =>
      this.#traps.set(member.name, resolve),
    );
    const event = await Promise.race([fallen, sleep(ms, undefined, { ref: false })]);
    this.#traps.delete(member.name);
    return event;
  }

  async #start(member: Member): Promise<void> {
    const { rows, strategy, onStoreFailure, broken, seed } = this.#options;
    const setup: CrewSetup & { seed: number; databaseUrl: string; redisUrl: string } = {
      rows,
      broken,
      region: {
        strategy,
        onStoreFailure,
        leaseTtl: LEASE_TTL,
        softLockTtl: SOFT_LOCK_TTL,
        maxStaleness: MAX_STALENESS,
        nearCache: strategy === 'read-write' ? undefined : { maxEntries: 1_000 },
      },
      lanes: member.role === 'reader' ? 3 : 2,
      seed: seed * 1_000 + this.members.indexOf(member) * 17,
      databaseUrl: member.postgres.through(this.servers.databaseUrl),
      redisUrl: member.redis.through(this.servers.redisUrl),
    };
    await member.start(setup, (event, by) => this.#hear(member, event, by));
    const { incarnation } = member;
    incarnation.child.once('exit', (code, signal) => {
      if (this.#isOver) return;
      this.tell(`${incarnation.name} ended (${signal ?? code})`);
      if (signal === null && code !== 0)
        this.#unhandled.push(`${incarnation.name} exited with ${code}: ${incarnation.errors}`);
      if (this.hasTime(1_000)) void this.#start(member);
    });
    if (!member.isAlive && !this.#isOver) throw new Error(`${incarnation.name} did not start: ${incarnation.errors}`);
  }

  #hear(member: Member, event: WorkerEvent, by: Incarnation): void {
    this.#judge.add(event, by);
    const at = 'at' in event ? event.at : 'end' in event ? event.end : nowUp();
    this.#trace.add(by.name, event, at);
    switch (event.kind) {
      case 'read':
        count(this.#servedBy, event.servedBy || 'nothing');
        break;
      case 'committed':
      case 'deleted':
        count(this.#writes, event.released ? event.kind : `${event.kind}, store not told`);
        break;
      case 'aborted':
      case 'doubtful':
        count(this.#writes, event.kind);
        if (!event.error.startsWith('MeantToFail')) count(this.#writeErrors, `${event.kind}: ${event.error}`);
        break;
      case 'error':
        count(member.role === 'reader' ? this.#readErrors : this.#writeErrors, `${event.where}: ${event.error}`);
        break;
      case 'unhandled':
        this.#unhandled.push(`${by.name}: ${event.error}`);
        break;
      case 'stalled':
        by.stalls.push({ from: event.from, to: event.at });
        break;
      case 'trap':
        this.#fallen(member, event);
        break;
      case 'ending':
        by.ended = event.step;
        break;
      case 'statistics':
        this.#statistics = sumStatistics([this.#statistics, event.statistics]);
        break;
      default:
    }
  }

  #fallen(member: Member, event: Extract<WorkerEvent, { kind: 'trap' }>): void {
    const waiting = this.#traps.get(member.name);
    if (waiting) waiting(event);
    // later than its fault has waited for it
    else if (event.trap.kind === 'stop') void member.resumeAfter(0);
  }

  /** Up to three faults at a time, on different processes. */
  async #injectFaults(): Promise<void> {
    const { faults, stopWhenStale } = this.#options;
    const weights = Object.fromEntries(faults.map((kind) => [kind, weightOf(kind)])) as Record<FaultKind, number>;
    const running = new Set<Promise<void>>();
    await sleep(500);
    while (this.hasTime(0)) {
      await sleep(this.random.whole(50, 500));
      if (stopWhenStale && this.#judge.stale.length > 0) break;
      if (faults.length === 0 || running.size >= 3 || !this.hasTime(1_500)) continue;
      if (this.#isProlonged && this.#hasSeenFaults()) continue;
      const kind = this.random.weighted(weights);
      const fault = this.#inject(kind).finally(() => running.delete(fault));
      running.add(fault);
    }
    await Promise.all(running);
    this.#endsAt = 0;
  }

  #hasShownEnough(): boolean {
    const { strategy, stopWhenStale } = this.#options;
    if (stopWhenStale) return true;
    const hits = this.#servedBy[strategy === 'read-write' ? 'store' : 'near-cache'] ?? 0;
    const commits = this.#writes['committed'] ?? 0;
    return hits >= AT_LEAST.hits && commits >= AT_LEAST.commits && this.#hasSeenFaults();
  }

  #hasSeenFaults(): boolean {
    return Object.keys(this.#faults).length >= Math.min(AT_LEAST.faultKinds, this.#options.faults.length);
  }

  async #inject(kind: FaultKind): Promise<void> {
    if (await inject(kind, this)) count(this.#faults, kind);
  }

  /** Lets everything heal, compares the cache with the database, and ends the processes. */
  async #finish(): Promise<string[]> {
    const healed = this.members.filter(({ isAlive }) => isAlive);
    for (const member of healed) {
      member.order({ kind: 'disarm' });
      if (member.role === 'writer') member.order({ kind: 'quiet' });
    }
    if (!this.#options.stopWhenStale) {
      await sleep(SOFT_LOCK_TTL + 2_500);
      this.#judge.addTruth(await this.servers.rows(), nowUp());
      await sleep(500);
    }
    this.#isOver = true;
    const ended = await Promise.all(healed.map(async (member) => ({ member, inTime: await member.finish(FINISH_MS) })));
    return ended.flatMap(({ member, inTime }) =>
      inTime ? [] : [`${member.incarnation.name} (it has ended ${member.incarnation.ended})`],
    );
  }

  #settle(until: number): void {
    const { stale, dirty, leftovers, stepsBack } = this.#judge;
    this.#judge.settle(until);
    for (const [title, list] of Object.entries({ stale, dirty, leftovers, 'a step back': stepsBack })) {
      const finding = list[0];
      if (!finding || this.#traced.has(title)) continue;
      this.#traced.add(title);
      this.#traces.push(this.#trace.of(title, finding));
    }
  }

  async #report(stuck: string[]): Promise<CheckerReport> {
    const { reads, stale, behind, late, leftovers, stepsBack, dirty } = this.#judge;
    return {
      options: this.#options,
      reads,
      servedBy: this.#servedBy,
      writes: this.#writes,
      faults: this.#faults,
      stale,
      behind,
      late,
      leftovers,
      stepsBack,
      dirty,
      traces: this.#traces,
      readErrors: this.#readErrors,
      writeErrors: this.#writeErrors,
      unhandled: this.#unhandled,
      stuck,
      evicted: await this.servers.evicted(),
      statistics: this.#statistics,
    };
  }
}

function count(counters: Record<string, number>, name: string): void {
  counters[name] = (counters[name] ?? 0) + 1;
}
