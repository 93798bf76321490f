import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 5_000;

/** A database or cache server that this process started and has to end. */
export class ServerProcess {
  constructor(
    readonly name: string,
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly stopSignal: NodeJS.Signals,
    private readonly log: () => Promise<string>,
  ) {
    child.once('error', (error) => (this.spawnError = error));
  }

  spawnError: Error | undefined;

  get pid(): number {
    return this.child.pid ?? -1;
  }

  get running(): boolean {
    return !this.spawnError && this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(): Promise<void> {
    if (!this.running) {
      return;
    }
    const exited = once(this.child, 'exit');
    this.child.kill(this.stopSignal);
    const killTimer = setTimeout(() => this.child.kill('SIGKILL'), STOP_DEADLINE_MS);
    await exited;
    clearTimeout(killTimer);
  }

  async startError(cause: unknown): Promise<Error> {
    const log = await this.log().catch(() => '');
    return new Error(`${this.name} did not start: ${this.spawnError?.message ?? log}`, { cause });
  }
}

/** Waits until `probe` succeeds, and gives up as soon as the server is gone. */
export async function until(server: ServerProcess, probe: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    try {
      await probe();
      // Somebody else's server may have answered on that port, while ours could not bind it.
      if (server.running) {
        return;
      }
    } catch (error) {
      if (server.running && Date.now() < deadline) {
        await sleep(25);
        continue;
      }
      await server.stop();
      throw await server.startError(error);
    }
    throw await server.startError(undefined);
  }
}

/** A free port may be taken by another process between the moment it is chosen and the moment it is bound. */
export async function retryOnBusyPort<T>(start: () => Promise<T>, attempts = 5): Promise<T> {
  for (;;) {
    try {
      return await start();
    } catch (error) {
      attempts -= 1;
      if (attempts === 0 || !/address already in use/i.test(String(error))) {
        throw error;
      }
    }
  }
}
