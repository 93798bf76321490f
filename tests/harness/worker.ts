import { setTimeout as sleep } from 'node:timers/promises';

/** What one process of a group does, see {@link defineWorker}. */
interface WorkerRound<Input, Output> {
  /** The part that all processes begin at the same instant. */
  round: (input: Input, index: number) => Promise<Output>;
  close?: () => Promise<void>;
}

/** Ties the types of a worker file to the test that starts it. */
export interface WorkerDefinition<Init, Input, Output> {
  start: (init: Init, index: number) => Promise<WorkerRound<Input, Output>>;
}

export type ToWorker =
  | { kind: 'start'; init: unknown; index: number }
  | { kind: 'prepare'; input: unknown }
  | { kind: 'go'; atMs: number }
  | { kind: 'close' };

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'prepared' }
  | { kind: 'done'; output: unknown }
  | { kind: 'failed'; name: string; message: string; stack: string | undefined };

/** Set for the processes of a group: the tests import worker files too, for their types and entities. */
export const WORKER_VARIABLE = 'MIKRO_ORM_PLUS_WORKER';

/** The last stretch before the start is waited for without leaving the processor, as a timer may be late. */
const SPIN_MS = 3;

/**
 * Turns a file into a worker for {@link startProcesses}; it is the file's default export.
 *
 * ```ts
 * export default defineWorker(async (init: { url: string }) => {
 *   const { orm, close } = await connectTestOrm(init.url, { entities: [User] });
 *   return { round: async (email: string) => getOrCreate(orm.em.fork(), email), close };
 * });
 * ```
 *
 * Its entities are made with `defineEntity`.
 */
export function defineWorker<Init, Input, Output>(
  start: WorkerDefinition<Init, Input, Output>['start'],
): WorkerDefinition<Init, Input, Output> {
  if (process.env[WORKER_VARIABLE]) {
    serve(start as WorkerDefinition<unknown, unknown, unknown>['start']);
  }
  return { start };
}

function serve(start: WorkerDefinition<unknown, unknown, unknown>['start']): void {
  let worker: WorkerRound<unknown, unknown> | undefined;
  let index = 0;
  let input: unknown;

  const answer = (message: FromWorker) => process.send!(message);

  const handle = async (message: ToWorker) => {
    switch (message.kind) {
      case 'start':
        index = message.index;
        worker = await start(message.init, index);
        answer({ kind: 'ready' });
        break;
      case 'prepare':
        input = message.input;
        answer({ kind: 'prepared' });
        break;
      case 'go':
        await sleep(message.atMs - Date.now() - SPIN_MS);
        while (Date.now() < message.atMs);
        answer({ kind: 'done', output: await worker!.round(input, index) });
        break;
      case 'close':
        await worker?.close?.();
        process.disconnect();
    }
  };

  process.on('message', (message: ToWorker) => {
    handle(message).catch((error: Error) =>
      answer({ kind: 'failed', name: error.name, message: error.message, stack: error.stack }),
    );
  });
  // The test is over or was killed; whatever still runs here must not outlive it.
  process.once('disconnect', () => process.exit());
}
