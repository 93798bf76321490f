import { PlusSubscriber } from '../../../src/index.js';
import { connectTestOrm } from '../../harness/orm.js';
import { defineWorker } from '../../harness/worker.js';
import { Tag } from './entities.js';

export interface Task {
  /** Changes the row by a flush; otherwise it is only looked up. */
  weight?: number;
  name: string;
  /** Dies by itself when it has committed, before the cache is told. */
  dies?: boolean;
}

/** One process of a service. */
export default defineWorker(async (init: { url: string; redisUrl: string; prefix: string; softLockMs: number }) => {
  const unhandled: string[] = [];
  process.on('unhandledRejection', (reason) => unhandled.push(String(reason)));
  const plus = new PlusSubscriber({
    stores: { default: init.redisUrl },
    prefix: init.prefix,
    timeout: 5_000,
    regions: { softLockTtl: init.softLockMs, leaseTtl: init.softLockMs / 2 },
  });
  const { orm, statements, close } = await connectTestOrm(init.url, { entities: [Tag], subscribers: [plus] });
  return {
    async round(task: Task) {
      const em = orm.em.fork();
      statements.take();
      if (task.weight !== undefined) {
        const tag = await em.findOneOrFail(Tag, { name: task.name });
        tag.weight = task.weight;
        if (task.dies) plus.afterTransactionCommit = async () => process.exit(9);
        await em.flush();
        return { weight: tag.weight, created: false, statements: statements.take().length, unhandled };
      }
      const [tag, created] = await em.getRepository(Tag).getOrCreate({ name: task.name }, { weight: 1 });
      return { weight: tag.weight, created, statements: statements.take().length, unhandled };
    },
    close,
  };
});
