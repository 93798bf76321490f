import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { startCluster, storeKinds, type Service } from './support/cluster.js';
import { randomFrom } from './support/random.js';
import { Tag } from './support/entities.js';

const SEED = 20_260_501;
/** Committed writes, however long they take on a busy machine. */
const WRITES = 250;
const NAMES = ['a', 'b', 'c'];

/**
 * Writers count a row's weight up by every way there is; whoever reads must see at least what was acknowledged, or seen
 * by anybody else, before the read began.
 */
describe.each(storeKinds)('readers and writers over %s', (kind) => {
  it('never see a row older than the last acknowledged commit', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag], size: 3 });
    const { services } = cluster;
    const ids = new Map<string, number>();
    for (const name of NAMES) {
      const [{ id }] = await services[0].em().getRepository(Tag).getOrCreate({ name }, { weight: 0 });
      ids.set(name, id);
    }
    const known = new Map(NAMES.map((name) => [name, 0]));
    const learn = (name: string, weight: number) => known.set(name, Math.max(weight, known.get(name)!));
    const stale: string[] = [];
    const count = { reads: 0, writes: 0 };
    const isDone = () => count.writes >= WRITES;

    const read = async (service: Service, random: () => number): Promise<void> => {
      const name = NAMES[Math.floor(random() * NAMES.length)]!;
      const atLeast = known.get(name)!;
      const where = random() < 0.3 ? { id: ids.get(name)! } : { name };
      const em = service.em();
      const [tag] = await (random() < 0.2
        ? em.transactional((inner) => inner.getRepository(Tag).getOrCreate(where))
        : em.getRepository(Tag).getOrCreate(where));
      count.reads += 1;
      learn(name, tag.weight);
      if (tag.weight < atLeast) stale.push(`${name}: ${tag.weight} < ${atLeast}`);
    };

    const write = async (service: Service, random: () => number): Promise<void> => {
      const name = NAMES[Math.floor(random() * NAMES.length)]!;
      const id = ids.get(name)!;
      const em = service.em();
      const way = Math.floor(random() * 6);
      const fails = random() < 0.15;
      let weight = 0;
      const commit = em.transactional(async (inner) => {
        // the row lock orders the writers, so that each knows what it adds to
        const [row] = await inner.execute<{ weight: number }[]>('select weight from tag where id = ? for update', [id]);
        weight = row!.weight + 1;
        const repository = inner.getRepository(Tag);
        if (way === 0) await repository.updateOrCreate({ name }, { weight });
        else if (way === 1) await repository.nativeUpdate({ name }, { weight });
        else if (way === 2) await repository.upsert({ name, weight });
        else if (way === 3) {
          await inner.execute('update tag set weight = ? where id = ?', [weight, id]);
          await repository.evict({ id });
        } else if (way === 4) {
          await inner.transactional(async (nested) => {
            (await nested.findOneOrFail(Tag, id)).weight = weight;
          });
        } else inner.assign(inner.getReference(Tag, id), { weight });
        if (fails) throw new Error('undo');
      });
      try {
        await commit;
        count.writes += 1;
        learn(name, weight);
      } catch (error) {
        if ((error as Error).message !== 'undo') throw error;
      }
    };

    const agents = services.flatMap((service, index) => {
      const random = randomFrom(SEED + index);
      const reading = Array.from({ length: 3 }, async () => {
        while (!isDone()) {
          await read(service, random);
          // a store in memory would leave the processor to nobody else
          await setImmediate();
        }
      });
      const writing = (async () => {
        while (!isDone()) {
          await write(service, random);
          await sleep(random() * 8);
        }
      })();
      return [...reading, writing];
    });
    await Promise.all(agents);

    expect(stale).toEqual([]);
    const hits = services.reduce((sum, { plus }) => sum + plus.statistics(Tag).storeHits, 0);
    expect(hits / count.reads).toBeGreaterThan(0.2);
    for (const name of NAMES) {
      for (const service of services) {
        const [{ weight }] = await service.em().getRepository(Tag).getOrCreate({ name });
        expect(weight).toBe(known.get(name));
      }
    }
  });
});
