import type { Finding } from './judge.js';
import type { WorkerEvent } from './protocol.js';

/** Microseconds that events are kept for traces. */
const KEPT = 20_000_000;
const LINES = 80;

interface Traced {
  readonly at: number;
  readonly process: string;
  readonly event: WorkerEvent | { readonly kind: 'fault'; readonly text: string };
}

/** The last events of all processes, to be read as a story when something went wrong. */
export class Trace {
  #events: Traced[] = [];
  #pruneAt = 10_000;
  /** Rows by the keys of their entries; a row that was deleted and created again has several. */
  readonly #rowOf = new Map<string, string>();

  add(process: string, event: Traced['event'], at: number): void {
    if (event.kind === 'entry') {
      this.#rowOf.set(event.key, event.row);
      return;
    }
    this.#events.push({ at, process, event });
    if (this.#events.length < this.#pruneAt) return;
    this.#events = this.#events.filter((traced) => traced.at > at - KEPT);
    this.#pruneAt = this.#events.length + 10_000;
  }

  /** What concerns the row of a finding: from a little before the write that it missed to the read. */
  of(title: string, { read, reader, missed }: Finding): string {
    const from = Math.max(missed.at - 1_500_000, read.start - 8_000_000);
    const lines = this.#events
      .filter(({ at }) => at >= from && at <= read.end)
      .filter((traced) => this.#concerns(traced, read.row) && !isPlainHit(traced))
      .toSorted((left, right) => left.at - right.at)
      .map((traced) => line(traced, read.start));
    const summary =
      `${title}: ${reader} read ${read.row} (id ${read.id}) by ${read.how}, served by ${read.servedBy}: version ${read.version}, ` +
      `but ${missed.process} had version ${missed.version} (${missed.how}` +
      `${missed.released ? '' : ', store not told'}) ${((read.start - missed.at) / 1_000).toFixed(1)} ms before`;
    return [summary, ...lines.slice(-LINES)].join('\n  ');
  }

  #concerns({ event }: Traced, row: string): boolean {
    switch (event.kind) {
      case 'operation':
        return event.keys.length === 0 || event.keys.some((key) => this.#rowOf.get(key) === row);
      case 'statistics':
      case 'ready':
      case 'ending':
        return false;
      default:
        return !('row' in event) || event.row === row;
    }
  }
}

function isPlainHit({ event }: Traced): boolean {
  return event.kind === 'read' && ['store', 'near-cache'].includes(event.servedBy);
}

function line({ at, process, event }: Traced, zero: number): string {
  const time = `${((at - zero) / 1_000).toFixed(1)} ms`.padStart(12);
  return `${time}  ${process.padEnd(10)} ${describe(event, zero)}`;
}

function describe(event: Traced['event'], zero: number): string {
  switch (event.kind) {
    case 'fault':
      return `fault: ${event.text}`;
    case 'read':
      return `read ${event.row} v${event.version} by ${event.how} from ${event.servedBy}, since ${((event.start - zero) / 1_000).toFixed(1)} ms`;
    case 'committed':
      return `acknowledged ${event.row} v${event.version} (${event.how}), begun at ${((event.begun - zero) / 1_000).toFixed(1)} ms${event.released ? '' : ', store not told'}`;
    case 'deleted':
      return `acknowledged the deletion of ${event.row}, id ${event.id} (${event.how})${event.released ? '' : ', store not told'}`;
    case 'aborted':
      return `rolled back ${event.row} v${event.version} (${event.how})`;
    case 'doubtful':
      return `doesn't know of ${event.row} v${event.version} (${event.how}): ${event.error}`;
    case 'trap':
      return `${event.trap.kind}${'ms' in event.trap ? ` ${event.trap.ms} ms` : ''} at ${event.point}`;
    case 'operation':
      return `${event.operation} ${event.keys.join(' ')}: ${event.outcome}`;
    case 'error':
    case 'unhandled':
      return `${event.kind}: ${event.error}`;
    default:
      return event.kind;
  }
}
