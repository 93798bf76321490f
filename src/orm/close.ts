import type { EntityManager } from '@mikro-orm/postgresql';

type Close = (force?: boolean) => Promise<void>;

const closers = new WeakMap<object, Set<() => Promise<void>>>();

/**
 * Has `callback` called after `orm.close()`. MikroORM has no event for that, so the driver's `close()` is wrapped, once
 * per driver.
 */
export function onOrmClose(em: EntityManager, callback: () => Promise<void>): void {
  const driver = em.getDriver() as unknown as { close: Close };
  let callbacks = closers.get(driver);
  if (!callbacks) {
    const registered = (callbacks = new Set());
    closers.set(driver, registered);
    const close = driver.close.bind(driver);
    driver.close = async (force) => {
      try {
        await close(force);
      } finally {
        await Promise.all([...registered].map((registeredCallback) => registeredCallback()));
      }
    };
  }
  callbacks.add(callback);
}
