import { TransactionContext, type Transaction } from '@mikro-orm/core';
import type { AbstractSqlDriver, EntityManager } from '@mikro-orm/postgresql';
import { TransactionContextError } from '../errors.js';
import type { Meta } from './metadata.js';
import type { Sql } from './statement.js';
import { untilNoForeignUnit } from './unit.js';

export type { EntityManager } from '@mikro-orm/postgresql';

/** Options of MikroORM's own that decide how a statement is sent. */
export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  readonly inflightQueryAbortStrategy?: unknown;
  readonly logging?: object | undefined;
}

/** A row as the driver gave it, keyed by column. */
export type Row = Record<string, unknown>;

/**
 * The EntityManager that a repository of `em` works on, taken from MikroORM's contexts.
 *
 * A plain fork doesn't see the transaction that `fork.transactional()` opened around the call: it would read and write
 * beside it, and could wait for the very rows that its caller holds. One that is in a transaction itself doesn't see the
 * savepoint that a nested `transactional()` opened: it would keep entities whose rows the savepoint undoes. Neither can
 * be told from an unrelated EntityManager, so all are refused. One that was forked inside the transaction stays outside
 * on purpose: ids of EntityManagers only grow, so it is the younger one.
 *
 * @throws {TransactionContextError} when a transaction is open around the call that `em` isn't part of
 */
export function resolveContext(em: EntityManager, meta: Meta): EntityManager {
  const context = em.getContext(false);
  const inner = TransactionContext.getEntityManager(context.name) as EntityManager | undefined;
  if (!inner || inner === context || !inner.isInTransaction() || context._id > inner._id) return context;
  if (!context.isInTransaction() || isSavepoint(inner.getTransactionContext())) {
    throw new TransactionContextError(
      `The repository of ${meta.className} belongs to an EntityManager outside the transaction that is open around this ` +
        `call, so it would neither see its changes nor be part of it. Inside em.transactional(inner => …) use ` +
        `inner.getRepository(${meta.className}); to work outside the transaction on purpose, use inner.fork().getRepository(${meta.className}).`,
      { entity: meta.className },
    );
  }
  return context;
}

function isSavepoint(transaction: Transaction | undefined): boolean {
  return (transaction as { savepointName?: string } | undefined)?.savepointName !== undefined;
}

interface AbortHost {
  getAbortOptions(): { signal?: AbortSignal; inflightQueryAbortStrategy?: unknown } | undefined;
}

/** Runs one statement as MikroORM would: in the open transaction, logged, abortable, with its own exception classes. */
export async function run(em: EntityManager, statement: Sql, options: SendOptions = {}): Promise<Row[]> {
  const driver = em.getDriver() as AbstractSqlDriver;
  const inherited = abortOptions(em);
  const loggerContext = {
    id: em.id,
    ...em.getLoggerContext(),
    ...options.logging,
    signal: options.signal ?? inherited.signal,
    inflightQueryAbortStrategy: options.inflightQueryAbortStrategy ?? inherited.inflightQueryAbortStrategy,
  };
  options.signal?.throwIfAborted();
  await untilNoForeignUnit(em);
  const send = (ctx?: Transaction): Promise<Row[]> =>
    // always the primary: what is read here is trusted by a creation, or fills a cache
    em.getConnection('write').execute<Row[]>(statement.sql, [...statement.params], 'all', ctx, loggerContext as never);
  try {
    return await em.withSessionContext(em.getTransactionContext(), send);
  } catch (error) {
    throw driver.convertException(error as Error);
  }
}

/** The abort options of the EntityManager are protected; statements of ours must honour them all the same. */
function abortOptions(em: EntityManager): NonNullable<ReturnType<AbortHost['getAbortOptions']>> {
  return (em as unknown as AbortHost).getAbortOptions() ?? {};
}

/**
 * Whether a statement for this caller would be the same as for any other caller: outside transactions, with the rights
 * of the connection, nothing that could abort it and no logger context of its own.
 */
export function isSharable(em: EntityManager, { signal, logging }: SendOptions): boolean {
  if (signal || logging || em.isInTransaction() || em.getSessionContext() !== undefined) return false;
  for (const _ in em.getLoggerContext({ disableContextResolution: true })) return false;
  const inherited = abortOptions(em);
  return inherited.signal === undefined;
}

/** Runs one statement for several callers that are all {@link isSharable}; `em` is one caller's, for the log. */
export async function runShared(em: EntityManager, statement: Sql): Promise<Row[]> {
  const driver = em.getDriver() as AbstractSqlDriver;
  const connection = em.getConnection('write');
  const loggerContext = { id: em.id } as never;
  try {
    return await connection.execute<Row[]>(statement.sql, [...statement.params], 'all', undefined, loggerContext);
  } catch (error) {
    throw driver.convertException(error as Error);
  }
}

/** Whether the server refused a statement for what it says, not for the state that the server is in. */
export function isOfStatement(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^(08|53|57P|58|F0|HV|XX)/.test(code);
}

/**
 * Whether a value of a statement's can't be written out (an invalid date, say), so that nothing was sent, or can't be
 * read by any server (a NUL character), so that nothing was run.
 */
export function isUnwritable(em: EntityManager, makeStatement: () => Sql): boolean {
  try {
    const { sql, params } = makeStatement();
    return em.getPlatform().formatQuery(sql, params).includes('\0');
  } catch {
    return true;
  }
}

/** Whether the server ended a statement because it took or waited too long, or was told to. */
export function isOfWaiting(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === '57014' || code === '55P03';
}

/** Where the database of an EntityManager is. */
export function databaseOf(em: EntityManager): { host: string | undefined; port: number; name: string | undefined } {
  const { host, port, database } = em.getConnection('write').getConnectionOptions();
  return { host: host || undefined, port: port || 5432, name: database };
}

export function driverOf(em: EntityManager): AbstractSqlDriver {
  return em.getDriver();
}
