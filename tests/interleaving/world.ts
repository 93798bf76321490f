import type { FillEntry } from '../../src/stores/CacheStore.js';
import { TICK_MS, type Bench } from './benches.js';
import { StateTable, TICKS, type Found, type Loss } from './state-table.js';

/** What a commit has to do with the cache, as far as the promises below depend on it. */
interface Commit {
  lockedAt: number | undefined;
  committedAt: number | undefined;
  /** Its lock was lost before its time was over. */
  lockLost: boolean;
  /** Something removed the entry since the commit, and made older permits void. */
  settled: boolean;
}

const VALUE_MS = 1e12;

/**
 * What is demanded of a cached value, at any moment: to be no older than what was acknowledged (the promise); besides,
 * to be the row as committed, unless a commit that isn't released yet had no sound lock; or without that exception.
 */
export type Demand = 'acknowledged' | 'sound' | 'committed';

/** One row in a database, its entry in a store, and what was promised to whom. */
export class World {
  /** The last committed version of the row; 0: there is none. */
  committed = 1;
  exists = true;
  /** The newest version whose commit was acknowledged to its caller. */
  acknowledged = 1;
  /** Who has changed the row and not committed yet: PostgreSQL lets others wait. */
  rowLock: string | undefined;
  /** Commands that were sent, but arrive when they like. */
  readonly late = new Map<string, () => Promise<unknown>>();
  readonly #table = new StateTable();
  readonly #bench: Bench;
  readonly #demand: Demand;
  readonly #commits = new Map<string, Commit>();
  readonly #tokens = new Map<string, string>();
  readonly #guards = new Map<string, string>();

  constructor(bench: Bench, demand: Demand) {
    this.#bench = bench;
    this.#demand = demand;
  }

  // The database.

  select(): number | undefined {
    return this.exists ? this.committed : undefined;
  }

  update(who: string): boolean {
    if (this.exists) this.rowLock = who;
    return this.exists;
  }

  /** The new version; visible to every select from here on. */
  commit(who: string, change: 'update' | 'delete' | 'insert' = 'update'): number {
    this.rowLock = undefined;
    this.committed += 1;
    this.exists = change !== 'delete';
    if (change !== 'insert') this.#commitOf(who).committedAt = this.#table.now;
    return this.committed;
  }

  rollBack(): void {
    this.rowLock = undefined;
  }

  acknowledge(version: number): void {
    this.acknowledged = Math.max(this.acknowledged, version);
  }

  // The store. Every step is compared with the state table.

  async read(who: string): Promise<Found> {
    const { store, key } = this.#bench;
    const [result] = await store.readMany([key], { leaseMs: TICKS.lease * TICK_MS });
    if (result!.kind === 'leased') this.#tokens.set(who, result!.token);
    const found: Found =
      result!.kind === 'hit' ? { kind: 'hit', version: Number(result!.value) } : { kind: result!.kind };
    return this.#same('read', found, this.#table.read(who));
  }

  async guard(who: string, ticks: number = TICKS.guard): Promise<void> {
    const { store, region } = this.#bench;
    this.#guards.set(who, await store.guard(region, { guardMs: ticks * TICK_MS }));
    this.#table.guard(who, ticks);
  }

  async fill(who: string, kind: 'lease' | 'guard', version: number | undefined): Promise<boolean> {
    const { store, key, region } = this.#bench;
    const permit: FillEntry['permit'] =
      kind === 'lease' ? { kind, token: this.#tokens.get(who)! } : { kind, region, sequence: this.#guards.get(who)! };
    const [written] = await store.fillMany([{ key, value: version?.toString(), ttlMs: VALUE_MS, permit }]);
    return this.#same('fill', written!, this.#table.fill(who, kind, version));
  }

  async lock(who: string): Promise<void> {
    await this.#bench.store.lockMany([this.#bench], who, TICKS.lock * TICK_MS);
    this.#table.lock(who);
    this.#commitOf(who).lockedAt ??= this.#table.now;
  }

  /** `region`: of a broken protocol, which moves another region's sequence. */
  async release(who: string, version?: number, region = this.#bench.region): Promise<void> {
    const { store, key } = this.#bench;
    const value = version === undefined ? {} : { value: version.toString(), ttlMs: VALUE_MS };
    await store.releaseMany([{ key, region, ...value }], who);
    this.#table.release(who, version, region === this.#bench.region);
    this.#commitOf(who).settled = true;
    this.#settle();
  }

  async evict(): Promise<void> {
    await this.#bench.store.evictMany([this.#bench]);
    this.#table.evict();
    this.#settle();
  }

  // What happens by itself.

  async passTicks(count: number): Promise<void> {
    await this.#bench.passTicks(count);
    this.#table.now += count;
  }

  async lose(loss: Loss): Promise<void> {
    if (loss === 'entry' || loss === 'everything') {
      for (const [who, commit] of this.#commits) if (this.#table.isLockedBy(who)) commit.lockLost = true;
    }
    await this.#bench.lose(loss);
    this.#table.lose(loss);
  }

  /** What is wrong, if anything. Looking at the entry is the first step of a read that starts now. */
  async violation(): Promise<string | undefined> {
    const [peeked] = await this.#bench.store.readMany([this.#bench.key]);
    const cached = peeked!.kind === 'hit' ? Number(peeked!.value) : undefined;
    this.#same('peek', cached, this.#table.version);
    if (cached === undefined) return undefined;
    if (cached < this.acknowledged) {
      return `a read that starts now gets version ${cached}, but version ${this.acknowledged} was acknowledged`;
    }
    if (this.#demand === 'acknowledged' || cached === this.committed) return undefined;
    if (this.#demand === 'committed' || !this.#isAnyCommitUncovered()) {
      return `version ${cached} is cached, but version ${this.committed} is committed`;
    }
    return undefined;
  }

  /**
   * Whether a commit may have left its forerunner in the cache for now: it isn't released yet, and its lock was lost, or
   * came more than a lock's life less a guard's before it.
   */
  #isAnyCommitUncovered(): boolean {
    return [...this.#commits.values()].some(
      ({ lockedAt, committedAt, lockLost, settled }) =>
        committedAt !== undefined &&
        !settled &&
        (lockedAt === undefined || lockLost || committedAt - lockedAt > TICKS.lock - TICKS.guard),
    );
  }

  /** Equal texts: no difference from here on. */
  canonical(live: ReadonlySet<string>): unknown[] {
    const commits = [...this.#commits].flatMap(([who, { lockedAt, committedAt, lockLost, settled }]) => {
      if (settled) return [];
      const age = lockedAt === undefined ? '' : Math.min(this.#table.now - lockedAt, TICKS.lock);
      const took = committedAt === undefined || lockedAt === undefined ? '' : committedAt - lockedAt;
      const phase = committedAt === undefined ? `locked for ${age}` : `committed after ${took}`;
      return [`${live.has(who) ? who : ''} ${phase} ${lockLost}`];
    });
    const { committed, exists, acknowledged, rowLock } = this;
    const late = [...this.late.keys()].toSorted();
    return [committed, exists, acknowledged, rowLock, late, commits.toSorted(), this.#table.canonical(live)];
  }

  #commitOf(who: string): Commit {
    let commit = this.#commits.get(who);
    if (!commit) {
      commit = { lockedAt: undefined, committedAt: undefined, lockLost: false, settled: false };
      this.#commits.set(who, commit);
    }
    return commit;
  }

  /** A removal clears up after all commits before it; a value that is written through only after its own. */
  #settle(): void {
    if (this.#table.version !== undefined) return;
    for (const commit of this.#commits.values()) if (commit.committedAt !== undefined) commit.settled = true;
  }

  #same<T>(operation: string, actual: T, expected: T): T {
    if (JSON.stringify(actual) !== JSON.stringify(expected)) {
      const [store, table] = [JSON.stringify(actual), JSON.stringify(expected)];
      throw new Error(`${operation}: the store answers ${store}, the state table says ${table}`);
    }
    return actual;
  }
}
