import { errorText } from '../terminal.js';
import { findingsOf, type Finding } from './finding.js';

export const { ok, warning, problem } = findingsOf('stores');

/** Long enough for a first connection, its TLS and Sentinel. */
export const ANSWER_MS = 5_000;

/** Nothing depends on the clocks but what people read out of logs, and memcached's leases. */
const CLOCK_MS = 1_000;

export function unreachable(alias: string, subject: string, error: unknown): Finding {
  return problem('unreachable', subject, `does not answer: ${errorText(error)}`, [
    `-- start it, or correct stores.${alias} of PlusSubscriber; until then the database answers`,
  ]);
}

export function checkClock(
  subject: string,
  { offsetMs, exactToMs }: { readonly offsetMs: number; readonly exactToMs: number },
): Finding[] {
  if (Math.abs(offsetMs) - exactToMs <= CLOCK_MS) return [];
  const off = `${Math.abs(Math.round(offsetMs))} ms ${offsetMs > 0 ? 'ahead of' : 'behind'}`;
  return [warning('clock', subject, `its clock is ${off} this machine's`, ['-- let both follow a time server (NTP)'])];
}

export function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
}
