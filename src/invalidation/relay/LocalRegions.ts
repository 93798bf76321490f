import { ageOf, now, type Moment } from '../../near-cache/moment.js';
import { parseNotification } from '../change-log.js';
import { isAboutKeys, readNotifiedKeys } from './ChangeLog.js';
import type { Failures } from './Failures.js';
import type { RelaySession } from './RelaySession.js';
import type { WatchedTable } from './WatchedTable.js';

/** Part of `maxStaleness` within which the connection must have proven itself; the rest is for what takes time beside. */
const PROOF_SHARE = 0.9;

/** Changes of one table that wait to be applied. */
interface Pending {
  readonly schema: string;
  readonly table: WatchedTable;
  readonly payloads: string[];
  /** Any row of the table may have changed. */
  isWhole: boolean;
}

/** What {@link LocalRegions} are made of. */
export interface LocalRegionsParts {
  readonly failures: Failures;
  tables(): readonly WatchedTable[];
}

/**
 * Keeps regions honest whose rows are in this process's memory alone, by what PostgreSQL notifies.
 *
 * **Promise**: what such a region serves at a time t was the row at some time from t - maxStaleness on.
 *
 * Why it holds. A heartbeat that comes back proves that everything which was committed before it was sent has been
 * notified here (see `RelaySession.beat`). It counts once that has been applied, too: {@link proof} is then the moment
 * when it was sent. A region serves, leases and stores only if its proof is younger than `maxStaleness`, by the clocks
 * at that moment. So what it serves had not been changed by then, or the change came after the proof.
 *
 * A row that was selected before a commit and is stored after its notification was applied would go unnoticed. It can't
 * be stored: the eviction ended the reader's lease and moved the region's sequence, which voids its guard. A lease that
 * was taken after the eviction belongs to a select that saw the commit: PostgreSQL notifies only what is visible.
 *
 * When the connection is lost, the regions are emptied. They are emptied once more when a new one listens: values that
 * writers of this process wrote through, and leases from before, are gone then, and whatever is changed from there on is
 * notified.
 */
export class LocalRegions {
  readonly #parts: LocalRegionsParts;
  #pending = new Map<string, Pending>();
  /** Ends when everything that was notified so far has been applied. */
  #applied: Promise<void> = Promise.resolve();
  #session: RelaySession | undefined;
  #proof: Moment | undefined;

  constructor(parts: LocalRegionsParts) {
    this.#parts = parts;
  }

  /** Whether everything that was committed elsewhere until `maxStalenessMs` ago is known here. */
  isProven(maxStalenessMs: number): boolean {
    return this.#proof !== undefined && ageOf(this.#proof) <= maxStalenessMs * PROOF_SHARE;
  }

  /** Time between heartbeats in milliseconds; `undefined` when there is no such region. */
  get beatMs(): number | undefined {
    const bounds = this.#tables().map(({ region }) => region.options.maxStaleness);
    return bounds.length === 0 ? undefined : Math.max(10, Math.min(...bounds) / 4);
  }

  /** A connection listens from now on. */
  open(session: RelaySession): void {
    this.#session = session;
    this.#emptyAll();
  }

  /** The connection is lost, or closed. */
  lose(): void {
    this.#session = undefined;
    this.#proof = undefined;
    this.#pending = new Map();
    this.#emptyAll();
  }

  /** Takes what was notified; it is applied soon. */
  take(payload: string): void {
    const change = parseNotification(payload);
    const session = this.#session;
    if (!change || !session) return;
    const tables = this.#tables().filter((table) => table.isNamed(change.schema, change.table));
    if (tables.length === 0) return;
    if (this.#pending.size === 0) this.#enqueue(() => this.#apply(session));
    for (const table of tables) {
      const name = JSON.stringify([table.region.name, change.schema]);
      const pending = this.#pending.get(name) ?? { schema: change.schema, table, payloads: [], isWhole: false };
      this.#pending.set(name, pending);
      if (change.keys) pending.payloads.push(payload);
      else pending.isWhole = true;
    }
  }

  /** Sends a heartbeat, and ends when it counts. */
  async beat(session: RelaySession): Promise<void> {
    const sent = now();
    await session.beat();
    await this.#applied;
    if (session === this.#session && !session.isOver) this.#proof = sent;
  }

  #tables(): readonly WatchedTable[] {
    return this.#parts.tables().filter(({ isLocal }) => isLocal);
  }

  #enqueue(work: () => Promise<void>): void {
    this.#applied = this.#applied.then(work).catch((error: Error) => this.#parts.failures.add('listen', error));
  }

  async #apply(session: RelaySession): Promise<void> {
    const pending = this.#pending;
    this.#pending = new Map();
    // of a connection that is lost meanwhile, everything is emptied
    await Promise.all([...pending.values()].map((each) => this.#evict(session, each)));
  }

  async #evict(session: RelaySession, { table, schema, payloads, isWhole }: Pending): Promise<void> {
    if (isWhole) {
      await table.evictAll();
      return;
    }
    try {
      await table.evict(schema, await readNotifiedKeys(session, table, schema, payloads));
    } catch (error) {
      await table.evictAll();
      if (isAboutKeys(error)) this.#parts.failures.add('keys', error as Error);
      else session.lose(error as Error);
    }
  }

  #emptyAll(): void {
    for (const table of this.#tables()) this.#enqueue(async () => void (await table.evictAll()));
  }
}
