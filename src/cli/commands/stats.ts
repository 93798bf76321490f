import { setTimeout as delay } from 'node:timers/promises';
import { newStatistics, sumStatistics, type Statistics } from '../../observability/statistics.js';
import { cachedTables } from '../../invalidation/cached-tables.js';
import type { Meta } from '../../orm/metadata.js';
import { countEntries, inspectServer, redisAccessOf, type EntryCount } from '../../stores/redis/inspect.js';
import { readSharedStatistics, type SharedStatistics } from '../../stores/shared-statistics.js';
import type { Call } from '../arguments.js';
import { findEntity, requirePlus, type Project } from '../project.js';
import type { ProcessStats, RegionStats, StatsReport, StoreStats } from '../stats-report.js';
import { errorText } from '../terminal.js';
import { printStats } from '../stats-tables.js';
import { untilStopped } from '../until-stopped.js';
import { withinTime } from '../within-time.js';

/** Counting the entries of a large store takes a while; a store that says nothing at all is given up sooner. */
const ANSWER_MS = 5_000;
const COUNT_MS = 60_000;

/** Prints the counters of running processes, and what Redis holds. Exit code 1 when a store does not answer. */
export async function stats(project: Project, { args, options }: Call): Promise<number> {
  requirePlus(project);
  const meta = args[0] === undefined ? undefined : findEntity(project, args[0]);
  const stopped = untilStopped();
  let before: StatsReport | undefined;
  do {
    const report = await look(project, meta);
    if (options.json) process.stdout.write(`${JSON.stringify(report, undefined, options.watch ? 0 : 2)}\n`);
    else printStats(report, before, options.watch);
    before = report;
    if (options.watch) await delay(options.intervalMs, undefined, { signal: stopped }).catch(() => undefined);
  } while (options.watch && !stopped.aborted);
  return before.stores.some(({ error }) => error !== undefined) ? 1 : 0;
}

async function look(project: Project, only: Meta | undefined): Promise<StatsReport> {
  const { regions } = requirePlus(project);
  const prefix = regions.prefixOf(project.em);
  const counts = new Map<string, Map<string, EntryCount>>();
  const stores: StoreStats[] = [];
  for (const alias of regions.aliases) {
    const access = redisAccessOf(regions.storeOf(alias).store);
    if (!access) continue;
    try {
      const servers = await withinTime(ANSWER_MS, access.eachServer(inspectServer));
      counts.set(alias, await withinTime(COUNT_MS, countEntries(access, prefix)));
      const sum = (pick: (server: (typeof servers)[number]) => number): number =>
        servers.reduce((total, server) => total + pick(server), 0);
      stores.push({
        store: alias,
        usedMemoryBytes: sum(({ usedMemoryBytes }) => usedMemoryBytes),
        maxMemoryBytes: sum(({ maxMemoryBytes }) => maxMemoryBytes),
      });
    } catch (error) {
      stores.push({ store: alias, error: errorText(error) });
    }
  }
  const shared = await sharedBy(project);
  return {
    format: 1,
    at: new Date().toISOString(),
    processes: shared.map((each) => processStats(each, only)),
    entities: byEntity(shared, only),
    regions: regionStats(project, counts, only),
    stores,
  };
}

async function sharedBy(project: Project): Promise<SharedStatistics[]> {
  const { regions } = requirePlus(project);
  const access = regions.redis;
  if (!access) return [];
  // what can't be read is told of the store
  return withinTime(ANSWER_MS, readSharedStatistics(access, regions.prefixOf(project.em))).catch(() => []);
}

function processStats({ host, pid, since, entities, stores }: SharedStatistics, only: Meta | undefined): ProcessStats {
  const statistics = only
    ? (entities[only.className] ?? newStatistics())
    : sumStatistics([...Object.values(entities), stores]);
  return { host, pid, since: new Date(since).toISOString(), statistics };
}

function byEntity(shared: readonly SharedStatistics[], only: Meta | undefined): Record<string, Statistics> {
  const names = new Set(shared.flatMap(({ entities }) => Object.keys(entities)));
  return Object.fromEntries(
    [...names]
      .filter((name) => !only || name === only.className)
      .toSorted()
      .map((name) => [name, sumStatistics(shared.flatMap(({ entities }) => entities[name] ?? []))]),
  );
}

function regionStats(
  project: Project,
  counts: ReadonlyMap<string, ReadonlyMap<string, EntryCount>>,
  only: Meta | undefined,
): RegionStats[] {
  const { regions } = requirePlus(project);
  const { em } = project;
  return cachedTables(em.getMetadata(), em.config)
    .filter((meta) => !only || meta === only.root)
    .flatMap((meta): RegionStats[] => {
      const region = regions.of(em, meta)!;
      const inStore = counts.get(region.store.alias);
      if (!inStore) return [];
      const rows = inStore.get(region.name)?.rows ?? 0;
      const lookups = counts.get('default')?.get(region.name)?.lookups ?? 0;
      return [{ entity: meta.className, store: region.store.alias, rows, lookups }];
    });
}
