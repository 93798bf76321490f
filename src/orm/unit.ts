import { TransactionEventBroadcaster, type Transaction } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { AsyncLocalStorage } from 'node:async_hooks';

/**
 * A unit is a transaction, or a savepoint within one, that an atomic repository opens around work of several
 * statements. While it is open, its EntityManager's statements run in it; calls of other async flows on the same
 * EntityManager wait for its end, since a rollback of the unit must not undo their work.
 */
class Unit {
  readonly em: EntityManager;
  /** The unit around this one in the calling flow, maybe of another EntityManager. */
  readonly parent: Unit | undefined;
  readonly done: Promise<void>;
  /** The unit that is open inside this one. */
  active: Unit | undefined;
  readonly #finish: () => void;
  readonly #created: object[] = [];

  constructor(em: EntityManager, parent: Unit | undefined) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.em = em;
    this.parent = parent;
    this.done = promise;
    this.#finish = resolve;
  }

  /** Remembers an entity that must leave the identity map if the unit is undone. */
  add(entity: object): void {
    this.#created.push(entity);
  }

  forget(): void {
    for (const entity of this.#created) this.em.getUnitOfWork(false).unsetIdentity(entity);
  }

  /** A unit that ended well hands what it created to what is around it, which may still be undone. */
  handOver(): void {
    noteCreated(this.em, this.#created);
  }

  end(): void {
    this.#finish();
  }
}

interface Level {
  active: Unit | undefined;
}

const flow = new AsyncLocalStorage<Unit>();
const outermost = new WeakMap<EntityManager, Level>();

/** The unit of `em` that the calling flow is in. */
function ownUnit(em: EntityManager): Unit | undefined {
  let unit = flow.getStore();
  while (unit && unit.em !== em) unit = unit.parent;
  return unit;
}

function levelOf(em: EntityManager): Level {
  const own = ownUnit(em);
  if (own) return own;
  let level = outermost.get(em);
  if (!level) outermost.set(em, (level = { active: undefined }));
  return level;
}

/** Waits until no other flow has a unit open on `em` where the calling flow stands. */
export async function untilNoForeignUnit(em: EntityManager): Promise<void> {
  if (!outermost.has(em) && flow.getStore() === undefined) return;
  const level = levelOf(em);
  while (level.active) await level.active.done;
}

/** A transaction of the caller's, as the query builder behind MikroORM knows it. */
interface CallersTransaction {
  readonly isRolledBack: boolean;
}

const createdIn = new WeakMap<object, CallersTransaction>();

/** Has entities leave the identity map if the unit that the calling flow is in, or the caller's transaction, is undone. */
export function noteCreated(em: EntityManager, entities: readonly object[]): void {
  const unit = ownUnit(em);
  const transaction = em.getTransactionContext() as CallersTransaction | undefined;
  if (!unit && !transaction) return;
  for (const entity of entities) {
    if (unit) unit.add(entity);
    else createdIn.set(entity, transaction!);
  }
}

/**
 * Whether the transaction in which a row was created has been rolled back. `em.rollback()` leaves the row's entity in
 * the identity map, as if it existed.
 */
export function isUndone(entity: object): boolean {
  return createdIn.get(entity)?.isRolledBack === true;
}

/**
 * Runs `work` as one unit: in a transaction when none is open, else behind a savepoint, so that an error undoes `work`
 * and nothing else. The unit is taken on the connection: a nested `em.transactional()` could lose pending changes of
 * the caller's unit of work.
 */
export async function inUnit<R>(em: EntityManager, work: () => Promise<R>): Promise<R> {
  const level = levelOf(em);
  while (level.active) await level.active.done;
  const unit = new Unit(em, flow.getStore());
  level.active = unit;
  const outer = em.getTransactionContext();
  try {
    const result = await em.getConnection('write').transactional(
      async (transaction: Transaction) => {
        em.setTransactionContext(transaction);
        try {
          return await flow.run(unit, work);
        } finally {
          // what the commit or rollback fires must not find a transaction that is ending
          restore(em, outer);
        }
      },
      {
        ctx: outer,
        ...(outer ? {} : { sessionContext: em.getTransactionSessionContext() }),
        loggerContext: em.getLoggerContext(),
        eventBroadcaster: new TransactionEventBroadcaster(em as never),
      },
    );
    unit.handOver();
    return result;
  } catch (error) {
    unit.forget();
    throw error;
  } finally {
    level.active = undefined;
    unit.end();
  }
}

function restore(em: EntityManager, transaction: Transaction | undefined): void {
  if (transaction) em.setTransactionContext(transaction);
  else em.resetTransactionContext();
}
