import type { EntityManager } from '@mikro-orm/postgresql';
import { MemoryStore, PlusSubscriber, RedisStore, type CacheStore } from '../../../src/index.js';
import type { PlusOptions } from '../../../src/PlusOptions.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../../harness/orm.js';
import { testPrefix, testRedisUrl } from '../../harness/servers.js';
import { ControlledStore } from './ControlledStore.js';

export const storeKinds = ['memory', 'redis'] as const;
export type StoreKind = (typeof storeKinds)[number];

/** One ORM with its own PlusSubscriber, like one process of a service. */
export interface Service extends TestOrm {
  plus: PlusSubscriber;
  store: ControlledStore;
  /** A fresh EntityManager, like that of a new request. */
  em(): EntityManager;
  /** What `work` gives, and the SQL that this service sent meanwhile. */
  watch<T>(work: (em: EntityManager) => Promise<T>): Promise<{ result: T; sql: string[] }>;
}

export interface Cluster extends AsyncDisposable {
  /** Two unless asked otherwise: in one database, over one store. */
  services: [Service, Service, ...Service[]];
  /** Of the database. */
  url: string;
  /** Every key starts with it. */
  prefix: string;
}

export interface ClusterOptions extends Pick<PlusOptions, 'regions' | 'timeout'> {
  entities: Parameters<typeof createTestOrm>[0]['entities'];
  size?: number;
  orm?: Partial<Parameters<typeof createTestOrm>[0]>;
}

let clusters = 0;

/** Starts ORMs that share a database and a store, each behind a {@link ControlledStore} of its own. */
export async function startCluster(kind: StoreKind, options: ClusterOptions): Promise<Cluster> {
  clusters += 1;
  const prefix = `${testPrefix()}${clusters}`;
  const shared = new MemoryStore();
  const stores: ControlledStore[] = [];
  const openStore = (): ControlledStore => {
    const real: CacheStore = kind === 'memory' ? shared : new RedisStore(testRedisUrl());
    const store = new ControlledStore(real);
    stores.push(store);
    return store;
  };
  const services: Service[] = [];
  for (let index = 0; index < (options.size ?? 2); index++) {
    const store = openStore();
    const plus = new PlusSubscriber({
      stores: { default: store },
      prefix,
      // a test that pauses a store isn't about its time limit, and a busy machine isn't a broken store
      timeout: options.timeout ?? 30_000,
      ...(options.regions ? { regions: options.regions } : {}),
    });
    const ormOptions = { entities: options.entities, subscribers: [plus], ...options.orm };
    const testOrm = index === 0 ? await createTestOrm(ormOptions) : await connectTestOrm(services[0]!.url, ormOptions);
    services.push(serviceOf(testOrm, plus, store));
  }
  return {
    services: services as Cluster['services'],
    url: services[0]!.url,
    prefix,
    async [Symbol.asyncDispose]() {
      stores.forEach((store) => store.heal());
      await Promise.all(services.map(({ orm }) => orm.close()));
      await services[0]!.close();
      await Promise.all(stores.map((store) => store.close()));
    },
  };
}

function serviceOf(testOrm: TestOrm, plus: PlusSubscriber, store: ControlledStore): Service {
  const em = (): EntityManager => testOrm.orm.em.fork();
  return {
    ...testOrm,
    plus,
    store,
    em,
    async watch(work) {
      testOrm.statements.take();
      const result = await work(em());
      return { result, sql: testOrm.statements.take() };
    },
  };
}
