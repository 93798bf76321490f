import { setTimeout as sleep } from 'node:timers/promises';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { EntityManager } from '@mikro-orm/postgresql';
import {
  PlusSubscriber,
  RedisStore,
  type CacheStore,
  type RelayMessage,
  type RelayOptions,
} from '../../../../src/index.js';
import type { RegionOptions } from '../../../../src/index.js';
import { ControlledStore } from '../../../cache/support/ControlledStore.js';
import { connectTestOrm, type TestOrm } from '../../../harness/orm.js';
import { testRedisUrl } from '../../../harness/servers.js';

/** One ORM with its own relay, like one process of a service. */
export interface Service extends TestOrm {
  plus: PlusSubscriber;
  store: ControlledStore;
  em(): EntityManager;
}

export interface ServiceOptions {
  entities: Parameters<typeof connectTestOrm>[1]['entities'];
  prefix: string;
  relay?: boolean | RelayOptions;
  /** Default: Redis. */
  store?: CacheStore;
  regions?: RegionOptions;
  timeout?: number;
  orm?: Partial<Parameters<typeof connectTestOrm>[1]>;
}

/** Connects a service whose relay is already at work, unless it has none. */
export async function startService(url: string, options: ServiceOptions): Promise<Service> {
  const store = new ControlledStore(options.store ?? new RedisStore(testRedisUrl()));
  const plus = new PlusSubscriber({
    stores: { default: store },
    prefix: options.prefix,
    // a busy machine isn't a broken store
    timeout: options.timeout ?? 30_000,
    relay: options.relay ?? { pollInterval: 1_000 },
    regions: options.regions ?? {},
  });
  const testOrm = await connectTestOrm(url, { entities: options.entities, subscribers: [plus], ...options.orm });
  const close = async (): Promise<void> => {
    await testOrm.close();
    await store.close();
  };
  await plus.start(testOrm.orm);
  return { ...testOrm, plus, store, em: () => testOrm.orm.em.fork(), close, [Symbol.asyncDispose]: close };
}

/** Waits for a condition; a busy machine may take its time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  explain: () => unknown = () => '',
  limitMs = 45_000,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`It did not come true in time. ${JSON.stringify(explain())}`);
    await sleep(5);
  }
}

/** Everything that relays of this process tell, until it is disposed of. */
export function recordRelay(): { messages: RelayMessage[] } & Disposable {
  const messages: RelayMessage[] = [];
  const listener = (message: unknown): void => void messages.push(message as RelayMessage);
  subscribe('mikro-orm-plus:relay', listener);
  return { messages, [Symbol.dispose]: () => void unsubscribe('mikro-orm-plus:relay', listener) };
}
