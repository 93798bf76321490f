/**
 * Work with a time limit, in milliseconds; the work itself goes on. Not cockatiel's timeout, which takes an answer that
 * arrived while this process was busy for none.
 *
 * @throws {Error} when the time is over
 */
export async function within<T>(limitMs: number, work: () => Promise<T>): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const fail = (): void => reject(new Error(`The store did not answer within ${limitMs} ms.`));
  // a process that was busy sees the end of its time before its sockets: an answer that is there already counts
  const timer = setTimeout(() => setImmediate(fail), limitMs);
  try {
    return await Promise.race([work(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
