import { once } from 'node:events';

/** A signal that is aborted by SIGINT or SIGTERM, which then don't end the process by themselves. */
export function untilStopped(): AbortSignal {
  const stopped = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    void once(process, name).then(() => stopped.abort());
  }
  return stopped.signal;
}
