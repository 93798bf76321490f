import type { Statistics } from '../../../src/observability/statistics.js';
import type { CheckerOptions } from './options.js';
import type { Finding } from './judge.js';

/** What one run has seen. */
export interface CheckerReport {
  readonly options: CheckerOptions;
  readonly reads: number;
  /** Of them, by whom they were answered: `store`, `near-cache` and others. */
  readonly servedBy: Readonly<Record<string, number>>;
  readonly writes: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly stale: readonly Finding[];
  readonly behind: readonly Finding[];
  readonly late: readonly Finding[];
  readonly leftovers: readonly Finding[];
  readonly stepsBack: readonly Finding[];
  readonly dirty: readonly Finding[];
  readonly traces: readonly string[];
  readonly readErrors: Readonly<Record<string, number>>;
  readonly writeErrors: Readonly<Record<string, number>>;
  readonly unhandled: readonly string[];
  /** Processes that had to be killed at the end. */
  readonly stuck: readonly string[];
  readonly evicted: number;
  readonly statistics: Statistics;
}

/** What must not happen, in words; empty for a good run. */
export function problemsOf(report: CheckerReport): string[] {
  const { stale, dirty, readErrors, unhandled, stuck } = report;
  const problems: string[] = [];
  if (stale.length > 0) problems.push(`${stale.length} stale reads, up to ${worst(stale)} ms`);
  if (dirty.length > 0) problems.push(`${dirty.length} reads of versions that were rolled back`);
  for (const [error, count] of Object.entries(readErrors)) problems.push(`a read failed ${count} times: ${error}`);
  problems.push(...unhandled);
  for (const name of stuck) problems.push(`${name} did not end by itself`);
  return problems;
}

/** The report for a reader at a terminal. */
export function print(report: CheckerReport): string {
  const { options, stale, behind, late, leftovers, stepsBack, dirty, statistics } = report;
  const { seed, seconds, readers, writers, rows, strategy, onStoreFailure, broken } = options;
  const finding = (list: readonly Finding[]): string =>
    list.length === 0 ? '0' : `${list.length}, worst ${worst(list)} ms`;
  return [
    `seed ${seed}, ${seconds} s, ${readers} readers and ${writers} writers over ${rows} rows, ${strategy}, ` +
      `onStoreFailure '${onStoreFailure}'${broken ? `, broken: ${broken}` : ''}`,
    `reads         ${report.reads}, by who answered: ${counts(report.servedBy)}`,
    `writes        ${counts(report.writes)}`,
    `faults        ${counts(report.faults)}`,
    `store         ${statistics.fills} fills, ${statistics.refusedFills} refused, ${statistics.softLocks} soft locks, ` +
      `${statistics.storeFailures} failures, ${report.evicted} evicted by Redis`,
    `stale reads   ${finding(stale)}${strategy === 'read-write' ? '' : ' (later than maxStaleness)'}`,
    `reads behind  ${finding(behind)} (within maxStaleness)`,
    `late reads    ${finding(late)} (the store could not be told, and was not overdue)`,
    `leftovers     ${finding(leftovers)} (old rows in the end, of writes that nobody was told of)`,
    `steps back    ${finding(stepsBack)} (older than an earlier read, of writes not yet acknowledged)`,
    `dirty reads   ${finding(dirty)}`,
    `write errors  ${counts(report.writeErrors)}`,
    ...report.traces.map((trace) => `\n${trace}`),
    ...problemsOf(report).map((problem) => `PROBLEM: ${problem}`),
  ].join('\n');
}

function worst(list: readonly Finding[]): string {
  return Math.max(...list.map(({ staleMs }) => staleMs)).toFixed(1);
}

function counts(counters: Readonly<Record<string, number>>): string {
  const entries = Object.entries(counters).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return entries.length === 0 ? 'none' : entries.map(([name, count]) => `${name} ${count}`).join(', ');
}
