/**
 * Work with a time limit, in milliseconds; the work itself goes on. Not cockatiel's timeout, which takes an answer that
 * arrived while this process was busy for none.
 *
 * @throws {Error} when the time is over
 */
export function within<T>(limitMs: number, work: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const answer = work();
    const fail = (): void => reject(new Error(`The store did not answer within ${limitMs} ms.`));
    // a process that was busy sees the end of its time before its sockets: an answer that is there already counts
    const timer = setTimeout(() => setImmediate(fail), limitMs);
    answer.then(
      (value) => {
        clearTimeout(timer);
        return resolve(value);
      },
      (error: Error) => {
        clearTimeout(timer);
        return reject(error);
      },
    );
  });
}
