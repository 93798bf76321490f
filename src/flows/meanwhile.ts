import { setImmediate } from 'node:timers/promises';

/**
 * Does other work while the database is busy with a statement, which is on its way by the next turn of the event loop. The
 * work isn't done when the statement has failed by then, so that nothing happens after its caller was told.
 */
export async function workMeanwhile<T>(statement: Promise<T>, work: () => void): Promise<T> {
  let hasFailed = false;
  statement.catch(() => (hasFailed = true));
  const workLater = async (): Promise<void> => {
    await setImmediate();
    if (!hasFailed) work();
  };
  const [result] = await Promise.all([statement, workLater()]);
  return result;
}
