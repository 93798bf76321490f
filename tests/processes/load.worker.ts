/**
 * The load of one process: callers that look up, create, update and delete, some in transactions, for a given time. It
 * prints what it has measured as one line of JSON per interval, and then has to end by itself.
 */
import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as sleep } from 'node:timers/promises';
import { PlusSubscriber } from '../../src/index.js';
import { Random } from './recency/random.js';
import { Item, type LoadReport } from './load.entity.js';

const [, , databaseUrl, redisUrl, callers, seconds] = process.argv as unknown as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const NAMES = 500;

const report = (event: LoadReport): void => console.log(JSON.stringify(event));
let unhandled = 0;
for (const event of ['unhandledRejection', 'uncaughtException', 'warning'] as const) {
  process.on(event, (error: NodeJS.ErrnoException) => {
    // nobody reads any more: the test is gone, and so is the reason to go on
    if (error.code === 'EPIPE') process.exit(1);
    unhandled += 1;
    report({ kind: 'unhandled', error: String(error.stack) });
  });
}

// a busy machine isn't a broken store
const plus = new PlusSubscriber({ stores: { default: redisUrl }, prefix: 'load', timeout: 10_000 });
const orm = await MikroORM.init({
  entities: [Item],
  clientUrl: databaseUrl,
  pool: { min: 0, max: 10 },
  subscribers: [plus],
  logger: () => undefined,
});
const endsAt = performance.now() + Number(seconds) * 1_000;
let calls = 0;
/** A busy machine gets a minute more for what a load has to be. */
const isOver = (): boolean => {
  const late = performance.now() - endsAt;
  return late >= 0 && (calls > Number(callers) * 5 || late >= 60_000);
};
const errors = new Map<string, number>();

async function caller(index: number): Promise<void> {
  const random = new Random(index);
  while (!isOver()) {
    try {
      await call(orm.em.fork(), random);
      calls += 1;
    } catch (error) {
      const text = String(error).slice(0, 200);
      errors.set(text, (errors.get(text) ?? 0) + 1);
    }
  }
}

async function call(em: EntityManager, random: Random): Promise<unknown> {
  const where = { name: `item ${random.whole(1, NAMES)}` };
  const repository = em.getRepository(Item);
  switch (random.weighted({ get: 70, many: 5, update: 10, transaction: 10, rollback: 3, remove: 2 })) {
    case 'get':
      return repository.getOrCreate(where, { note: 'x'.repeat(200) });
    case 'many':
      return repository.getOrCreateMany(Array.from({ length: 20 }, () => ({ name: `item ${random.whole(1, NAMES)}` })));
    case 'update':
      return repository.updateOrCreate(where, { weight: random.whole(1, 1_000) });
    case 'transaction':
      return em.transactional(async (inner) => {
        const [item] = await inner.getRepository(Item).getOrCreate(where);
        item.weight = random.whole(1, 1_000);
      });
    case 'rollback':
      return em
        .transactional(async (inner) => {
          await inner.getRepository(Item).updateOrCreate(where, { weight: 0 });
          throw new Error('meant to fail');
        })
        .catch((error: Error) => {
          if (error.message !== 'meant to fail') throw error;
        });
    case 'remove':
    default:
      return repository.nativeDelete(where);
  }
}

async function measure(): Promise<void> {
  while (!isOver()) {
    await sleep(Math.min(1_000, (Number(seconds) * 1_000) / 12));
    globalThis.gc!();
    report({ kind: 'sample', heapUsed: process.memoryUsage().heapUsed, calls });
  }
}

await Promise.all([measure(), ...Array.from({ length: Number(callers) }, (_value, index) => caller(index))]);
report({ kind: 'busy-over' });
// the test looks at the servers now
process.stdin.once('end', () => process.exit(1));
await new Promise((resolve) => process.stdin.once('data', resolve));
process.stdin.removeAllListeners('end');
process.stdin.destroy();
await orm.close();
report({ kind: 'closed', calls, unhandled, errors: Object.fromEntries(errors), statistics: plus.statistics() });
