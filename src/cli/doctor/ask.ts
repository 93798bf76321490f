import { run, type EntityManager, type Row } from '../../orm/context.js';
import type { Sql } from '../../orm/statement.js';
import { withinTime } from '../within-time.js';

/** Each statement of doctor's looks at little, but may have to wait for a lock, or for a server that hangs. */
const ANSWER_MS = 10_000;

/**
 * Runs one statement, and has the server cancel it when its time is up.
 *
 * @throws {NoAnswerError} after 10 s
 */
export async function ask(em: EntityManager, statement: Sql): Promise<Row[]> {
  const limit = new AbortController();
  const answer = run(em, statement, { signal: limit.signal, inflightQueryAbortStrategy: 'cancel query' });
  try {
    return await withinTime(ANSWER_MS, answer);
  } catch (error) {
    limit.abort();
    // what else becomes of it is of no interest
    answer.catch(() => undefined);
    throw error;
  }
}
