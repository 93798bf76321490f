import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Answers, Request } from './protocol.js';

/** How long a process may take to close what it holds. */
const CLOSE_MS = 10_000;

/** A process that one contender has for itself. */
export class ContenderProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;
  #errors = '';

  constructor() {
    this.#child = fork(fileURLToPath(new URL('worker.js', import.meta.url)), {
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning', '--disable-warning=DeprecationWarning'],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr!.on('data', (chunk: Buffer) => (this.#errors = (this.#errors + chunk.toString()).slice(-4_000)));
    this.#ended = once(this.#child, 'exit').then(([code, signal]): never => {
      throw new Error(`A process of the benchmark ended (${signal ?? code}): ${this.#errors}`);
    });
    // it is looked at when something is asked
    this.#ended.catch(() => {});
  }

  async ask<R extends Request>(request: R): Promise<Answers[R['kind']]> {
    const abort = new AbortController();
    try {
      const answered = once(this.#child, 'message', { signal: abort.signal }) as Promise<[Answer]>;
      this.#child.send(request);
      const [answer] = await Promise.race([answered, this.#ended]);
      if (answer.kind === 'failed') throw new Error(answer.message);
      return answer.value as Answers[R['kind']];
    } finally {
      abort.abort();
    }
  }

  /** Lets it close its connections, and wait for another scenario. */
  async rest(): Promise<void> {
    await this.ask({ kind: 'rest' });
  }

  /** Lets it close its connections, and kills it when that takes too long. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_MS);
    await this.ask({ kind: 'close' }).catch(() => this.#child.kill('SIGKILL'));
    await exited;
    clearTimeout(timer);
  }
}
