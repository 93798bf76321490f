import { newStatistics, type Statistics } from '../observability/statistics.js';
import type { StatsReport } from './stats-report.js';
import { print, style, table } from './terminal.js';

const CLEAR_SCREEN = '\u001B[H\u001B[2J';

const columns = [
  'lookups',
  'hits',
  'identity',
  'near',
  'store',
  'database',
  'created',
  'updated',
  'fills',
  'evictions',
  'failures',
];

/** For people. `before` is the last look, for the rates. */
export function printStats(report: StatsReport, before: StatsReport | undefined, isLive: boolean): void {
  if (isLive) print(process.stdout.isTTY ? `${CLEAR_SCREEN}${report.at}\n` : `${report.at}\n`);
  printProcesses(report, before);
  const entities = Object.entries(report.entities);
  if (entities.length > 0) {
    print(style('bold', 'Entities, in all processes'));
    print(
      table(
        ['entity', ...columns],
        entities.map(([name, statistics]) => [name, ...counters(statistics)]),
      ),
    );
    print();
  }
  if (report.regions.length > 0) {
    print(style('bold', 'Entries in Redis'));
    const rows = report.regions.map(({ entity, store, rows: count, lookups }) => [entity, store, count, lookups]);
    print(table(['entity', 'store', 'rows', 'lookups'], rows));
    print();
  }
  for (const { store, error, usedMemoryBytes = 0, maxMemoryBytes = 0 } of report.stores) {
    if (error !== undefined) print(`${style('red', '✖')} store '${store}' does not answer: ${error}`);
    else print(`store '${store}': ${megabytes(usedMemoryBytes)} used${limit(maxMemoryBytes)}`);
  }
  if (report.stores.length === 0) print('No store is in Redis: there is nothing to see from outside the processes.');
}

function printProcesses({ processes, at, stores }: StatsReport, before: StatsReport | undefined): void {
  if (processes.length === 0) {
    if (stores.length === 0) return;
    print('No process shares its statistics. To see them: new PlusSubscriber({ shareStatistics: 2_000, … })\n');
    return;
  }
  const seconds = before ? (Date.parse(at) - Date.parse(before.at)) / 1_000 : 0;
  const rows = processes.map(({ host, pid, since, statistics }) => {
    const last = before?.processes.find((each) => each.pid === pid && each.host === host && each.since === since);
    const rate = last && seconds > 0 ? ((statistics.lookups - last.statistics.lookups) / seconds).toFixed(0) : '';
    return [`${host}:${pid}`, since.slice(0, 19), ...counters(statistics), ...(before ? [rate] : [])];
  });
  print(style('bold', 'Processes'));
  print(table(['process', 'since (UTC)', ...columns, ...(before ? ['lookups/s'] : [])], rows));
  print();
}

function counters(statistics: Statistics): (string | number)[] {
  const { lookups, identityMapHits, nearCacheHits, storeHits, databaseHits, created, updated } = {
    ...newStatistics(),
    ...statistics,
  };
  const hits = identityMapHits + nearCacheHits + storeHits;
  const ratio = lookups === 0 ? '-' : `${((100 * hits) / lookups).toFixed(1)} %`;
  const { fills, evictions, storeFailures } = statistics;
  return [
    lookups,
    ratio,
    identityMapHits,
    nearCacheHits,
    storeHits,
    databaseHits,
    created,
    updated,
    fills,
    evictions,
    storeFailures,
  ];
}

function limit(bytes: number): string {
  return bytes > 0 ? ` of ${megabytes(bytes)}` : '';
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
}
