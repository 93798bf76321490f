import { PlusSubscriber } from '../../../src/index.js';
import { connectTestOrm } from '../../harness/orm.js';
import { defineWorker } from '../../harness/worker.js';
import { versions, type Change } from './versions.js';

export interface VersionTask {
  /** Read by its name, through the cache. */
  readonly name: string;
  /** Written before it is read; `undefined` leaves a property alone. */
  readonly write?: Readonly<Record<string, unknown>>;
  readonly by?: 'flush' | 'updateOrCreate';
  readonly reads?: number;
}

export interface VersionResult {
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  /** How many statements each read took. */
  readonly sent: readonly number[];
  readonly unhandled: readonly string[];
  readonly failures: number;
}

/** A process of a service that is being deployed: the first one has the old version of the entity, the others the new one. */
export default defineWorker(
  async (init: { url: string; redisUrl: string; prefix: string; change: Change }, index: number) => {
    const unhandled: string[] = [];
    process.on('unhandledRejection', (reason) => unhandled.push(String(reason)));
    const { old, next } = versions[init.change];
    const entity = index === 0 ? old : next;
    // a busy machine isn't a broken store
    const plus = new PlusSubscriber({ stores: { default: init.redisUrl }, prefix: init.prefix, timeout: 10_000 });
    const { orm, statements, close } = await connectTestOrm(init.url, { entities: [entity], subscribers: [plus] });
    return {
      async round({ name, write, by = 'flush', reads = 1 }: VersionTask): Promise<VersionResult> {
        if (write && by === 'flush') {
          const em = orm.em.fork();
          em.assign(await em.findOneOrFail(entity, { name }), write);
          await em.flush();
        } else if (write) await orm.em.fork().getRepository(entity).updateOrCreate({ name }, write);
        const rows: Record<string, unknown>[] = [];
        const sent: number[] = [];
        for (let read = 0; read < reads; read++) {
          statements.take();
          const [row] = await orm.em.fork().getRepository(entity).getOrCreate({ name });
          rows.push({ ...row });
          sent.push(statements.take().length);
        }
        return { rows, sent, unhandled, failures: plus.statistics().storeFailures };
      },
      close,
    };
  },
);
