import { setTimeout as delay } from 'node:timers/promises';

/** That something took too long. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';

  /** @param limitMs in milliseconds */
  constructor(limitMs: number) {
    super(`no answer within ${limitMs / 1_000} s`);
  }
}

/** @throws {NoAnswerError} when `work` takes longer than `limitMs` milliseconds; it goes on unseen */
export async function withinTime<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const timeout = async (): Promise<never> => {
    await delay(limitMs, undefined, { signal: timer.signal });
    throw new NoAnswerError(limitMs);
  };
  try {
    return await Promise.race([work, timeout()]);
  } finally {
    timer.abort();
  }
}
