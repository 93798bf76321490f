import { setTimeout as delay } from 'node:timers/promises';

/** Waits, but not longer than until `signal`. By itself it doesn't keep the process alive. */
export async function pause(ms: number, signal: AbortSignal, ref = false): Promise<void> {
  await delay(ms, undefined, { signal, ref }).catch(() => undefined);
}
