import { setTimeout as delay } from 'node:timers/promises';

/** @throws when `work` takes longer than `limitMs` milliseconds; it goes on unseen */
export async function withinTime<T>(limitMs: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const timeout = async (): Promise<never> => {
    await delay(limitMs, undefined, { signal: timer.signal });
    throw new Error(`no answer within ${limitMs / 1_000} s`);
  };
  try {
    return await Promise.race([work, timeout()]);
  } finally {
    timer.abort();
  }
}
