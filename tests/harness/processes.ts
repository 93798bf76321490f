import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type FromWorker, type ToWorker, WORKER_VARIABLE, type WorkerDefinition } from './worker.js';
import { typescriptArgs } from './typescript-args.js';

/** Between the message and the start of a round: long enough for the message to reach every process. */
const LEAD_MS = 20;
const CLOSE_DEADLINE_MS = 5_000;

export interface ProcessGroup<Input, Output> extends AsyncDisposable {
  readonly pids: number[];
  /** Lets all processes begin a round at the same instant; rejects if it fails in one of them. */
  round(input: (index: number) => Input): Promise<Output[]>;
  /** Like {@link round}, for rounds that some processes are meant to fail or to die in. */
  settle(input: (index: number) => Input): Promise<PromiseSettledResult<Output>[]>;
  /** Lets every worker close what it holds, and kills those that don't end by themselves. */
  close(): Promise<void>;
}

const open = new Set<ChildProcess>();

if (typeof afterAll === 'function') {
  afterAll(() => open.forEach((child) => child.kill('SIGKILL')));
}

/**
 * Starts processes that all run one worker file (see `defineWorker`), and waits until each is ready.
 *
 * ```ts
 * import type counter from './counter.worker.js';
 *
 * const file = new URL('./counter.worker.ts', import.meta.url);
 * await using group = await startProcesses<typeof counter>(file, { count: 4, init: { url } });
 * const rows = await group.round((index) => ({ name: `user ${index}` }));
 * ```
 */
export async function startProcesses<Worker>(
  file: URL,
  options: Worker extends WorkerDefinition<infer Init, infer _I, infer _O> ? { count: number; init: Init } : never,
): Promise<Worker extends WorkerDefinition<infer _, infer Input, infer Output> ? ProcessGroup<Input, Output> : never>;
export async function startProcesses(
  file: URL,
  { count, init }: { count: number; init: unknown },
): Promise<ProcessGroup<unknown, unknown>> {
  const workers = Array.from({ length: count }, () => new WorkerProcess(file));
  const close = async () => {
    await Promise.all(workers.map((worker) => worker.close()));
  };
  const settle = async (input: (index: number) => unknown) => {
    await Promise.allSettled(workers.map((worker, index) => worker.ask({ kind: 'prepare', input: input(index) })));
    const atMs = Date.now() + LEAD_MS;
    return Promise.allSettled(workers.map((worker) => worker.ask({ kind: 'go', atMs })));
  };
  try {
    await Promise.all(workers.map((worker, index) => worker.ask({ kind: 'start', init, index })));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    pids: workers.map((worker) => worker.pid),
    settle,
    round: async (input) =>
      (await settle(input)).map((result) => {
        if (result.status === 'rejected') {
          throw result.reason;
        }
        return result.value;
      }),
    close,
    [Symbol.asyncDispose]: close,
  };
}

class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #exit: Promise<string>;
  #output = '';

  constructor(file: URL) {
    this.#child = fork(fileURLToPath(file), {
      execArgv: [...typescriptArgs],
      env: { ...process.env, [WORKER_VARIABLE]: '1' },
      // Structured clone instead of JSON: dates and bigints arrive as such. (They are made outside Jest's sandbox:
      // compare them with `toEqual`; `instanceof` and `toStrictEqual` say no.)
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    open.add(this.#child);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    }
    this.#exit = once(this.#child, 'close').then(([code, signal]) => {
      open.delete(this.#child);
      return `Worker process ended (${signal ?? `exit code ${code}`})\n${this.#output}`;
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Sends a message and waits for its answer; the worker answers one at a time. */
  async ask(message: ToWorker): Promise<unknown> {
    const abort = new AbortController();
    try {
      const answered = once(this.#child, 'message', { signal: abort.signal }) as Promise<[FromWorker]>;
      const ended = this.#exit.then((reason): never => {
        throw new Error(reason);
      });
      if (this.#child.connected) {
        this.#child.send(message);
      }
      const [answer] = await Promise.race([answered, ended]);
      if (answer.kind === 'failed') {
        throw Object.assign(new Error(answer.message), { name: answer.name, stack: answer.stack });
      }
      return answer.kind === 'done' ? answer.output : undefined;
    } finally {
      abort.abort();
    }
  }

  async close(): Promise<void> {
    if (this.#child.connected) {
      this.#child.send({ kind: 'close' } satisfies ToWorker);
    }
    const timeout = new AbortController();
    await Promise.race([
      this.#exit,
      sleep(CLOSE_DEADLINE_MS, undefined, { signal: timeout.signal }).then(() => this.#child.kill('SIGKILL')),
    ]);
    timeout.abort();
    await this.#exit;
  }
}
