import type { EventSubscriber, TransactionEventArgs } from '@mikro-orm/postgresql';
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowDown, nowUp, type FaultPoint, type Trap, type WorkerEvent } from './protocol.js';
import type { Traps } from './trapped-store.js';

/** Operations noted between two events, at most; they are only for the trace. */
const NOTED = 200;

/** Writes events to the coordinator before anything else happens, so that a kill loses none of them. */
export class Reporter {
  #noted: WorkerEvent[] = [];

  send(event: WorkerEvent): void {
    const lines = [...this.#noted, event].map((each) => `${JSON.stringify(each)}\n`).join('');
    this.#noted = [];
    const bytes = Buffer.from(lines);
    for (let at = 0; at < bytes.length;) {
      try {
        at += writeSync(1, bytes, at);
      } catch (error) {
        // a full pipe that doesn't block: the coordinator is busy
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    }
  }

  /** Sends it with the next event. */
  note(event: WorkerEvent): void {
    if (this.#noted.length < NOTED) this.#noted.push(event);
  }
}

/** What one worker falls into when it reaches a fault point that the coordinator has armed. */
export class WorkerTraps implements Traps {
  readonly #reporter: Reporter;
  readonly #armed = new Map<FaultPoint, Trap>();
  #go: (() => void) | undefined;
  #slowCommitMs = 0;

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
  }

  arm(point: FaultPoint, trap: Trap, slowCommitMs = 0): void {
    this.#armed.set(point, trap);
    this.#slowCommitMs = slowCommitMs;
  }

  disarm(): void {
    this.#armed.clear();
    this.#slowCommitMs = 0;
    this.go();
  }

  /** Lets whoever asked at its fault point go on. */
  go(): void {
    this.#go?.();
    this.#go = undefined;
  }

  /** How long the next COMMIT is to take, if a fault needs it long. */
  takeSlowCommit(): number {
    const ms = this.#slowCommitMs;
    this.#slowCommitMs = 0;
    return ms;
  }

  note(operation: string, keys: readonly string[], outcome: string): void {
    this.#reporter.note({ kind: 'operation', at: nowDown(), operation, keys, outcome });
  }

  learn(key: string, row: string): void {
    this.#reporter.note({ kind: 'entry', key, row });
  }

  async reach(point: FaultPoint): Promise<void> {
    const trap = this.#armed.get(point);
    if (!trap) return;
    this.#armed.delete(point);
    const asked = trap.kind === 'ask' ? new Promise<void>((resolve) => (this.#go = resolve)) : undefined;
    this.#reporter.send({ kind: 'trap', point, trap, at: nowUp() });
    switch (trap.kind) {
      case 'kill':
        process.kill(process.pid, 'SIGKILL');
        return new Promise(() => undefined);
      case 'stop':
        process.kill(process.pid, 'SIGSTOP');
        return;
      case 'delay':
        await sleep(trap.ms);
        return;
      case 'ask':
        await asked;
    }
  }

  /** Register it before the PlusSubscriber: what ends here has ended in the database and not yet in the cache. */
  get atEnd(): EventSubscriber {
    const reach = async (point: FaultPoint, { transaction }: TransactionEventArgs) => {
      if (isOutermost(transaction)) await this.reach(point);
    };
    return {
      afterTransactionCommit: (args) => reach('commit:after', args),
      afterTransactionRollback: (args) => reach('rollback:after', args),
    };
  }

  /** Register it after the PlusSubscriber: the cache knows already, the database doesn't. */
  get beforeEnd(): EventSubscriber {
    return {
      beforeTransactionCommit: async ({ transaction }) => {
        if (isOutermost(transaction)) await this.reach('commit:before');
      },
    };
  }
}

function isOutermost(transaction: unknown): boolean {
  return (transaction as { savepointName?: string } | undefined)?.savepointName === undefined;
}
