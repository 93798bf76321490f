import type { CommitEvent, ReadEvent, WorkerEvent } from './protocol.js';
import { Staircase } from './staircase.js';

/** Whoever acknowledged a write, with what kept it from telling the store afterwards. */
export interface Acknowledger {
  readonly name: string;
  /** When the store must have been told, at the latest, of what it could not be told at `at`; microseconds. */
  dueAfter(at: number): number;
}

/** A read that returned less than it had to. */
export interface Finding {
  readonly read: ReadEvent;
  readonly reader: string;
  /** The first acknowledgement that the read doesn't know of. */
  readonly missed: Acknowledged;
  /** From that acknowledgement to the start of the read. */
  readonly staleMs: number;
}

export interface Acknowledged {
  readonly process: string;
  readonly how: string;
  readonly version: number | 'deleted';
  readonly at: number;
  readonly released: boolean;
}

interface Debt extends Acknowledged {
  readonly by: Acknowledger;
}

/** What is known of one row's life, by its id. */
class History {
  readonly commits = new Staircase<Acknowledged>();
  /** The same with the time that readers are given. */
  readonly due = new Staircase<Acknowledged>();
  readonly seen = new Staircase<string>();
  readonly truth = new Staircase<Acknowledged>();
  readonly debts: Debt[] = [];
}

/**
 * Decides which reads were stale. A read is stale if it started after a write of its row was acknowledged and returned a
 * lower version, or a row whose deletion was acknowledged; in a region that allows some staleness, if it started later
 * than that. It is told apart
 * - from one **behind**: it is within the staleness that is allowed;
 * - from a **late** one: the writer could not tell the store after its COMMIT, and the time that the documentation
 *   allows for making up for it wasn't over;
 * - from a **leftover**: long after the faults, the row isn't the one of the database, but nobody was told that it was
 *   changed (the writer died after COMMIT, or lost its acknowledgement);
 * - from a **step back**: another read had seen a newer version, of a write that wasn't acknowledged yet.
 */
export class Judge {
  readonly stale: Finding[] = [];
  readonly behind: Finding[] = [];
  readonly late: Finding[] = [];
  readonly leftovers: Finding[] = [];
  readonly stepsBack: Finding[] = [];
  /** Reads of versions that were rolled back. */
  readonly dirty: Finding[] = [];
  reads = 0;
  readonly #toleranceUs: number;
  readonly #rows = new Map<number, History>();
  readonly #aborted = new Map<string, Acknowledged>();
  #waiting: { read: ReadEvent; reader: string }[] = [];

  /** @param toleranceMs how long a read may miss an acknowledged write */
  constructor(toleranceMs: number) {
    this.#toleranceUs = toleranceMs * 1_000;
  }

  add(event: WorkerEvent, by: Acknowledger): void {
    switch (event.kind) {
      case 'read':
        this.#waiting.push({ read: event, reader: by.name });
        this.#history(event.id).seen.add(event.end, event.version, by.name);
        break;
      case 'committed':
        this.#acknowledge(event, event.version, by);
        break;
      case 'deleted':
        this.#acknowledge(event, 'deleted', by);
        break;
      case 'aborted': {
        const { row, version, how, at } = event;
        this.#aborted.set(`${row} ${version}`, { process: by.name, how, version, at, released: true });
        break;
      }
      default:
    }
  }

  /** What the database holds, long after everybody has stopped writing. */
  addTruth(rows: readonly { id: number; version: number }[], at: number): void {
    for (const { id, version } of rows) {
      const source = { process: 'database', how: 'select', version, at, released: true };
      this.#history(id).truth.add(at, version, source);
    }
    const alive = new Set(rows.map(({ id }) => id));
    for (const [id, history] of this.#rows) {
      if (alive.has(id)) continue;
      history.truth.add(at, Infinity, { process: 'database', how: 'select', version: 'deleted', at, released: true });
    }
  }

  /** Judges the reads that started before `until`; everything that could concern them must have been added. */
  settle(until: number): void {
    const ready = this.#waiting.filter(({ read }) => read.start < until);
    this.#waiting = this.#waiting.filter(({ read }) => read.start >= until);
    for (const { read, reader } of ready) this.#judge(read, reader);
  }

  #history(id: number): History {
    let history = this.#rows.get(id);
    if (!history) this.#rows.set(id, (history = new History()));
    return history;
  }

  #acknowledge(
    event: Pick<CommitEvent, 'id' | 'how' | 'at' | 'released'>,
    version: number | 'deleted',
    by: Acknowledger,
  ): void {
    const { id, how, at, released } = event;
    const acknowledged: Acknowledged = { process: by.name, how, version, at, released };
    const history = this.#history(id);
    if (released) {
      history.commits.add(at, versionOf(acknowledged), acknowledged);
      history.due.add(at + this.#toleranceUs, versionOf(acknowledged), acknowledged);
    } else history.debts.push({ ...acknowledged, by });
  }

  #judge(read: ReadEvent, reader: string): void {
    this.reads += 1;
    const history = this.#history(read.id);
    const finding = (missed: Acknowledged): Finding => {
      return { read, reader, missed, staleMs: (read.start - missed.at) / 1_000 };
    };
    const aborted = this.#aborted.get(`${read.row} ${read.version}`);
    if (aborted) this.dirty.push(finding(aborted));

    const missed = history.due.above(read.version);
    if (missed && missed.at <= read.start) {
      this.stale.push(finding(missed.source));
      return;
    }
    const debt = history.debts
      .filter(({ version, at }) => versionOf({ version }) > read.version && at <= read.start)
      .toSorted((left, right) => left.at - right.at)[0];
    if (debt) {
      const isOverdue = debt.by.dueAfter(debt.at) + this.#toleranceUs <= read.start;
      (isOverdue ? this.stale : this.late).push(finding(debt));
      return;
    }
    const behind = history.commits.above(read.version);
    if (behind && behind.at <= read.start) {
      this.behind.push(finding(behind.source));
      return;
    }
    const truth = history.truth.above(read.version);
    if (truth && truth.at <= read.start) {
      this.leftovers.push(finding(truth.source));
      return;
    }
    const seen = history.seen.above(read.version);
    if (seen && seen.at <= read.start) {
      const { version, at, source } = seen;
      this.stepsBack.push(finding({ process: source, how: 'read', version, at, released: true }));
    }
  }
}

function versionOf({ version }: Pick<Acknowledged, 'version'>): number {
  return version === 'deleted' ? Infinity : version;
}
