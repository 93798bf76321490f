import { publish } from '../../observability/channels.js';
import type { RelayRole } from '../../observability/relay-status.js';
import { helperLockKey, relayLockKey, type ChangeLog } from './ChangeLog.js';
import { deliver, lanesOf, type Lane } from './delivery.js';
import type { Failures } from './Failures.js';
import type { RelaySession } from './RelaySession.js';
import type { WatchedTable } from './WatchedTable.js';

/** How often a stand-by asks for the lock. */
const STANDBY_MS = 1_000;

/** How long a change lies in the log before a stand-by looks after it, in poll intervals. */
const OVERDUE_POLLS = 2;

/** How soon a store that did not confirm is told again at first; then after twice as long, up to the poll interval. */
const FIRST_RETRY_MS = 250;

const SWEEP_MS = 3_600_000;

/** What a {@link Deliverer} is made of. */
export interface DelivererParts {
  readonly log: ChangeLog;
  /** Schema of the log table. */
  readonly schema: string;
  readonly pollInterval: number;
  readonly batchSize: number;
  readonly failures: Failures;
  tables(): readonly WatchedTable[];
  onRole(role: RelayRole): void;
}

/** Decides who delivers, and does it when it is this process. */
export class Deliverer {
  readonly #parts: DelivererParts;
  /** By lane: when its stores are told again, since one did not confirm. */
  readonly #refusals = new Map<string, { readonly until: number; readonly pauseMs: number }>();
  #isActive = false;
  #helpAt = 0;
  #sweepAt = 0;
  delivered = 0;
  backlog: number | undefined;
  lastDeliveryAt: Date | undefined;

  constructor(parts: DelivererParts) {
    this.#parts = parts;
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  /** The session is over, and its lock with it. */
  lose(): void {
    this.#isActive = false;
    this.backlog = undefined;
    for (const lane of this.#refusals.keys()) this.#accept(lane);
  }

  /**
   * Delivers what is there, if this process has the lock or can get it.
   *
   * @returns how long to wait for the next turn, in milliseconds, when nothing is notified
   */
  async turn(session: RelaySession): Promise<number> {
    const { pollInterval, schema } = this.#parts;
    if (!this.#isActive) {
      const isMine = await tryLock(session, relayLockKey(schema));
      if (session.isOver) return 0;
      this.#isActive = isMine;
      this.#parts.onRole(isMine ? 'active' : 'standby');
    }
    if (this.#isActive) {
      await this.#drain(session);
      await this.#sweep(session);
      const retries = [...this.#refusals.values()].map(({ until }) => Math.max(1, until - performance.now()));
      return Math.min(pollInterval, ...retries);
    }
    await this.#help(session);
    return Math.min(pollInterval, STANDBY_MS);
  }

  /** Delivers until there is nothing left, but for stores that don't confirm. */
  async #drain(session: RelaySession, minAgeMs?: number): Promise<void> {
    let lanes = lanesOf(this.#parts.tables()).filter(({ name }) => this.#mayTry(name));
    while (lanes.length > 0) {
      const unfinished: Lane[] = [];
      // in turn, so that none waits for the end of another's backlog
      for (const lane of lanes) if (await this.#step(session, lane, minAgeMs)) unfinished.push(lane);
      lanes = unfinished;
    }
    if (minAgeMs === undefined) await this.#measureBacklog(session);
  }

  /** @returns whether there may be more */
  async #step(session: RelaySession, lane: Lane, minAgeMs: number | undefined): Promise<boolean> {
    const { log, batchSize, failures } = this.#parts;
    const view = { tables: lane.tables, ...(minAgeMs === undefined ? {} : { minAgeMs }) };
    const { changes, lagMs, outcome } = await deliver({ session, log, batchSize, failures }, view);
    if (changes > 0) {
      this.delivered += changes;
      this.lastDeliveryAt = new Date();
      publish('relay', { kind: 'delivery', changes, lag: lagMs });
    }
    if (outcome === 'refused') this.#refuse(lane.name);
    else this.#accept(lane.name);
    return outcome === 'more';
  }

  #mayTry(lane: string): boolean {
    return (this.#refusals.get(lane)?.until ?? 0) <= performance.now();
  }

  #refuse(lane: string): void {
    const before = this.#refusals.get(lane);
    const pauseMs = Math.min(before ? 2 * before.pauseMs : FIRST_RETRY_MS, this.#parts.pollInterval);
    this.#refusals.set(lane, { until: performance.now() + pauseMs, pauseMs });
    const error = new Error(`A store did not confirm evictions (${lane}); they stay in the change log until it does.`);
    this.#parts.failures.add(`store ${lane}`, error);
  }

  #accept(lane: string): void {
    if (this.#refusals.delete(lane)) this.#parts.failures.clear(`store ${lane}`);
  }

  async #measureBacklog(session: RelaySession): Promise<void> {
    const view = { tables: this.#parts.tables() };
    this.backlog = this.#refusals.size === 0 ? 0 : await this.#parts.log.count(session, view);
  }

  /** Looks after what the active relay hasn't delivered in good time. */
  async #help(session: RelaySession): Promise<void> {
    const { log, pollInterval, schema } = this.#parts;
    if (performance.now() < this.#helpAt) return;
    this.#helpAt = performance.now() + pollInterval;
    const minAgeMs = OVERDUE_POLLS * pollInterval;
    const overdue = await log.read(session, { tables: this.#parts.tables(), minAgeMs }, 1);
    if (overdue.length === 0 || !(await tryLock(session, helperLockKey(schema)))) return;
    try {
      await this.#drain(session, minAgeMs);
    } finally {
      if (!session.isOver) await session.query('select pg_advisory_unlock($1::bigint)', [helperLockKey(schema)]);
    }
  }

  async #sweep(session: RelaySession): Promise<void> {
    if (performance.now() < this.#sweepAt) return;
    this.#sweepAt = performance.now() + SWEEP_MS;
    await this.#parts.log.sweep(session, this.#parts.tables());
  }
}

async function tryLock(session: RelaySession, key: string): Promise<boolean> {
  const [row] = await session.query<{ isMine: boolean }>('select pg_try_advisory_lock($1::bigint) as "isMine"', [key]);
  return row!.isMine;
}
