import { defineEntity, p, type EntityManager, type MikroORM } from '@mikro-orm/postgresql';
import {
  cacheRegion,
  NonAtomicRepo,
  PlusSubscriber,
  withPlusRepo,
  withRepo,
  type PlusRepo,
  type RegionOptions,
} from 'mikro-orm-plus';
import { DEFAULTS, type Contender, type Environment } from './contender.js';
import { itemProperties, openOrm, type Item } from './item.js';

/** How rows are cached; `undefined` for a repository without a cache. */
type Caching = (environment: Environment) => Cached | undefined;

interface Cached {
  readonly store: string;
  /** Each contender has entries of its own, whichever way it reaches the database. */
  readonly prefix: string;
  readonly region: RegionOptions;
}

const databaseOnly: Caching = () => undefined;

const inMemory: Caching = ({ parameters }) => ({
  store: `memory://?maxEntries=${parameters['maxEntries'] ?? 100_000}`,
  prefix: 'bench-memory',
  region: {},
});

const inRedis: Caching = ({ redisUrl }) => ({ store: redisUrl, prefix: 'bench-redis', region: {} });

const nearCache: Caching = ({ redisUrl, parameters }) => ({
  store: redisUrl,
  prefix: 'bench-near',
  region: {
    strategy: 'nonstrict-read-write',
    // as long as the entries themselves, and as the peers' copies: a run takes longer than the default of a minute
    nearCache: { maxEntries: parameters['nearCacheEntries'] ?? 10_000, ttl: 3_600_000 },
  },
});

/** How a call gets its EntityManager. */
type Scope = 'fork per call' | 'one EntityManager';

interface Opened {
  readonly orm: MikroORM;
  readonly plus: PlusSubscriber | undefined;
  readonly repository: (em: EntityManager) => PlusRepo<Row>;
}

interface Row {
  id: number;
  name: string;
  weight?: number | null;
}

async function open(environment: Environment, caching: Caching): Promise<Opened> {
  const entity = entityOf(environment);
  const cached = caching(environment);
  const Tag = (cached ? withPlusRepo(entity) : withRepo(entity, NonAtomicRepo)) as never;
  const plus = cached && openSubscriber(cached);
  if (cached) cacheRegion(Tag, cached.region);
  const orm = await openOrm(environment, { entities: [Tag], subscribers: plus ? [plus] : [] });
  return { orm, plus, repository: (em) => em.getRepository(Tag) as unknown as PlusRepo<Row> };
}

/** A busy machine isn't a broken store: the limit is above what the scheduler may take. */
function openSubscriber({ store, prefix }: Cached): PlusSubscriber {
  return new PlusSubscriber({ stores: { default: store }, prefix, timeout: 5_000 });
}

/** The shared entity; with the parameter `columns`, one of so many columns on a table of its own. */
function entityOf({ parameters: { columns } }: Environment): typeof Item {
  if (columns === undefined) return defineEntity({ name: 'Item', tableName: 'item', properties: itemProperties() });
  const more = Array.from({ length: columns - 2 }, (_value, index) => [`c${index + 1}`, p.text().nullable()] as const);
  const properties = { id: p.integer().primary(), name: p.string().unique(), ...Object.fromEntries(more) };
  return defineEntity({ name: 'Item', tableName: `item_${columns}`, properties }) as unknown as typeof Item;
}

function contender({ orm, plus, repository }: Opened, scope: Scope, wide: boolean): Contender {
  const shared = orm.em.fork();
  const scoped = (): EntityManager => (scope === 'one EntityManager' ? shared : orm.em.fork());
  const defaults = (wide ? {} : DEFAULTS) as never;
  const prepareFlush = async (name: string): Promise<() => Promise<void>> => {
    const em = orm.em.fork();
    const [item] = await repository(em).getOrCreate({ name }, defaults);
    item.weight = (item.weight ?? 0) + 1;
    return () => em.flush();
  };
  return {
    getOrCreate: (name) => repository(scoped()).getOrCreate({ name }, defaults),
    getOrCreateMany: (names) =>
      repository(scoped()).getOrCreateMany(
        names.map((name) => ({ name })),
        defaults,
      ),
    update: async (name) => (await prepareFlush(name))(),
    prepareFlush,
    warmUp: (first, last) =>
      repository(orm.em.fork()).warmUp({ id: { $gte: first, $lte: last } }, { chunkSize: 5_000 }),
    served: () => ({ ...plus?.statistics() }),
    close: () => orm.close(),
  };
}

const opener =
  (caching: Caching, scope: Scope = 'fork per call') =>
  async (environment: Environment): Promise<Contender> =>
    contender(await open(environment, caching), scope, environment.parameters['columns'] !== undefined);

export const openDatabase = opener(databaseOnly);
export const openMemory = opener(inMemory);
export const openRedis = opener(inRedis);
export const openNear = opener(nearCache);
export const openIdentityMap = opener(databaseOnly, 'one EntityManager');

/** What a resolver does: many single calls in one tick on the EntityManager of its request. */
export async function openTick(environment: Environment): Promise<Contender> {
  const opened = await open(environment, databaseOnly);
  return {
    ...contender(opened, 'fork per call', false),
    getOrCreateMany: (names) => {
      const repository = opened.repository(opened.orm.em.fork());
      return Promise.all(names.map((name) => repository.getOrCreate({ name }, DEFAULTS as never)));
    },
  };
}
