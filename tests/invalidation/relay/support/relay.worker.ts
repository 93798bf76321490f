import { PlusSubscriber, RedisStore, type LockEntry } from '../../../../src/index.js';
import { Tag } from '../../../cache/support/entities.js';
import { connectTestOrm } from '../../../harness/orm.js';
import { defineWorker } from '../../../harness/worker.js';

/** When a process dies by itself, while it delivers. */
export type Death = 'before evict' | 'after evict' | undefined;

class MortalStore extends RedisStore {
  death: Death;

  override async evictMany(entries: readonly LockEntry[]): Promise<void> {
    if (this.death === 'before evict') process.kill(process.pid, 'SIGKILL');
    await super.evictMany(entries);
    if (this.death === 'after evict') process.kill(process.pid, 'SIGKILL');
  }
}

export interface Task {
  name?: string;
  death?: Death;
}

/** One process of a service, with a relay. */
export default defineWorker(async (init: { url: string; redisUrl: string; prefix: string }) => {
  const unhandled: string[] = [];
  process.on('unhandledRejection', (reason) => unhandled.push(String(reason)));
  const store = new MortalStore(init.redisUrl);
  const plus = new PlusSubscriber({
    stores: { default: store },
    prefix: init.prefix,
    timeout: 5_000,
    relay: { pollInterval: 500 },
  });
  const { orm, statements, close } = await connectTestOrm(init.url, { entities: [Tag], subscribers: [plus] });
  await plus.start(orm);
  return {
    async round({ name, death }: Task) {
      // once set it stays: a later call may come before the delivery that it waits for
      store.death ??= death;
      const status = plus.relayStatus();
      if (name === undefined) return { status, unhandled, weight: undefined, statements: 0 };
      statements.take();
      const [tag] = await orm.em.fork().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
      return { status, unhandled, weight: tag.weight, statements: statements.take().length };
    },
    async close() {
      await close();
      await store.close();
    },
  };
});
