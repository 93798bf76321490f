import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for a condition, asking again and again; fails after `limitMs`, which only a broken test reaches. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs = 30_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`It did not happen within ${limitMs} ms.`);
    await sleep(20);
  }
}
