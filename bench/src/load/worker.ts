/** The process of one contender: nothing else runs in it, so its CPU time and memory are the contender's. */
import { contenders } from '../contenders/index.js';
import type { Contender } from '../contenders/contender.js';
import { heapAfterCollection } from './memory.js';
import type { Answer, Request } from './protocol.js';
import { runSlice } from './run-slice.js';

const FILL_CALLERS = 16;
const VISITORS = 64;
const FILL_BATCH = 5_000;

let contender: Contender | undefined;

async function answer(request: Request): Promise<unknown> {
  if (request.kind === 'open') {
    await contender?.close();
    contender = await contenders[request.contender].open(request.environment);
    return undefined;
  }
  if (request.kind === 'rest' || request.kind === 'close') {
    await contender?.close();
    contender = undefined;
    return undefined;
  }
  if (!contender) throw new Error('No contender is open');
  switch (request.kind) {
    case 'fill':
      return fill(contender, request.count);
    case 'visit':
      return visit(contender, request.count, VISITORS);
    case 'warm-up':
      if (!contender.warmUp) throw new Error('This contender has no warmUp()');
      await contender.warmUp(request.first, request.last);
      return undefined;
    case 'slice':
      return runSlice(contender, request.slice);
    case 'heap':
      return heapAfterCollection();
    case 'served':
    default:
      return contender.served?.() ?? {};
  }
}

async function fill(filled: Contender, count: number): Promise<void> {
  const { getOrCreateMany } = filled;
  if (count > FILL_BATCH && getOrCreateMany) {
    for (let first = 1; first <= count; first += FILL_BATCH) {
      const size = Math.min(FILL_BATCH, count - first + 1);
      await getOrCreateMany(Array.from({ length: size }, (_value, index) => `k${first + index}`));
    }
    return;
  }
  await visit(filled, count, FILL_CALLERS);
}

async function visit({ getOrCreate }: Contender, count: number, callers: number): Promise<void> {
  let next = 1;
  const caller = async (): Promise<void> => {
    while (next <= count) await getOrCreate(`k${next++}`);
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

process.on('message', (request: Request) => {
  const reply = (message: Answer): void => {
    process.send!(message, () => {
      if (request.kind === 'close') process.exit(0);
    });
  };
  answer(request).then(
    (value) => reply({ kind: 'done', value }),
    (error: Error) => reply({ kind: 'failed', message: error.stack ?? String(error) }),
  );
});
// the benchmark is gone
process.on('disconnect', () => process.exit(1));
