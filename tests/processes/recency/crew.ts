import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { standsStill } from '../../harness/stop-process.js';
import { TcpProxy } from '../../harness/tcp-proxy.js';
import type { Acknowledger } from './judge.js';
import { dueAfter, type Span } from './make-up.js';
import { nowUp, type Order, type Role, type WorkerEvent, type WorkerSetup } from './protocol.js';
import { typescriptArgs } from '../../harness/typescript-args.js';

/** One life of a worker's process. */
export class Incarnation implements Acknowledger {
  readonly name: string;
  readonly child: ChildProcess;
  /** Times in which it could not tell the store anything. */
  readonly outages: Span[] = [];
  /** Times in which it had no turn on the machine, or the proxies had none that its connections go through. */
  readonly stalls: Readonly<Span>[] = [];
  diedAt = Infinity;
  /** How far it has come in ending by itself. */
  ended = 'nothing';
  errors = '';

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.child = child;
  }

  dueAfter(at: number): number {
    const due = dueAfter(at, this.outages, this.stalls);
    // what a process owed when it died nobody makes up for
    return this.diedAt < due ? Infinity : due;
  }
}

/** What a worker needs beside its place in the crew. */
export type CrewSetup = Omit<WorkerSetup, 'name' | 'role' | 'seed' | 'databaseUrl' | 'redisUrl'>;

/** A worker: its present process and its links to the servers, which outlive it. */
export class Member {
  readonly name: string;
  readonly role: Role;
  readonly redis: TcpProxy;
  readonly postgres: TcpProxy;
  incarnation!: Incarnation;
  /** Set while a fault is under way, so that faults on one process don't add up by accident. */
  isBusy = false;
  #isAtWork = false;
  #lives = 0;

  private constructor(name: string, role: Role, redis: TcpProxy, postgres: TcpProxy) {
    this.name = name;
    this.role = role;
    this.redis = redis;
    this.postgres = postgres;
  }

  static async join(name: string, role: Role, redisUrl: string, databaseUrl: string): Promise<Member> {
    return new Member(name, role, await TcpProxy.start(redisUrl), await TcpProxy.start(databaseUrl));
  }

  /** Starts the process; resolves when it is at work. */
  async start(
    setup: Omit<WorkerSetup, 'name' | 'role'>,
    hear: (event: WorkerEvent, by: Incarnation) => void,
  ): Promise<void> {
    this.#lives += 1;
    const child = fork(fileURLToPath(new URL('./checker.worker.ts', import.meta.url)), {
      execArgv: [...typescriptArgs],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const name = this.#lives > 1 ? `${this.name}.${this.#lives}` : this.name;
    const incarnation = new Incarnation(name, child);
    this.incarnation = incarnation;
    child.stderr!.on('data', (chunk: Buffer) => {
      incarnation.errors = (incarnation.errors + chunk.toString()).slice(-2_000);
    });
    child.once('exit', () => {
      incarnation.diedAt = nowUp();
      this.#isAtWork = false;
    });
    const ready = Promise.withResolvers<void>();
    createInterface({ input: child.stdout! }).on('line', (text) => {
      const event = JSON.parse(text) as WorkerEvent;
      if (event.kind === 'ready') {
        this.#isAtWork = true;
        ready.resolve();
      }
      hear(event, incarnation);
    });
    this.order({ kind: 'start', setup: { ...setup, name, role: this.role, seed: setup.seed + this.#lives * 31 } });
    await Promise.race([ready.promise, once(child, 'exit')]);
  }

  get isAlive(): boolean {
    return this.incarnation.diedAt === Infinity;
  }

  /** Whether a fault may be done to it. */
  get isFree(): boolean {
    return this.#isAtWork && !this.isBusy;
  }

  order(order: Order): void {
    if (this.incarnation.child.connected) this.incarnation.child.send(order, () => undefined);
  }

  signal(name: NodeJS.Signals): void {
    this.incarnation.child.kill(name);
  }

  /** Lets a process go on that stops itself, now or soon, once it has stood still for `ms`. */
  async resumeAfter(ms: number): Promise<void> {
    const { child } = this.incarnation;
    await this.during(async () => {
      while (!(await standsStill(child.pid!))) await sleep(5);
      await sleep(ms);
    });
    child.kill('SIGCONT');
  }

  /** Keeps in mind that the process couldn't tell the store anything while `work` went on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    const outage: Span = { from: nowUp(), to: Infinity };
    this.incarnation.outages.push(outage);
    try {
      return await work();
    } finally {
      outage.to = nowUp();
    }
  }

  /** Waits for the process to end by itself; `false` if it has to be killed. */
  async finish(deadlineMs: number): Promise<boolean> {
    const { child } = this.incarnation;
    if (!this.isAlive) return true;
    const exited = once(child, 'exit').then(() => true);
    this.order({ kind: 'finish' });
    const inTime = await Promise.race([exited, sleep(deadlineMs, false, { ref: false })]);
    if (!inTime) child.kill('SIGKILL');
    await exited;
    return inTime;
  }

  async leave(): Promise<void> {
    if (this.incarnation && this.isAlive) {
      const exited = once(this.incarnation.child, 'exit');
      this.signal('SIGKILL');
      await exited;
    }
    await this.redis[Symbol.asyncDispose]();
    await this.postgres[Symbol.asyncDispose]();
  }
}
