import { inspectServer, type MemcachedServerReport } from '../../stores/memcached/inspect.js';
import type { MemcachedStore } from '../../stores/memcached/MemcachedStore.js';
import { withinTime } from '../within-time.js';
import type { Finding } from './finding.js';
import { ANSWER_MS, checkClock, megabytes, ok, problem, unreachable } from './store-findings.js';

/** The findings about the servers of a store, which fail one by one. */
export async function checkMemcached(alias: string, store: MemcachedStore): Promise<Finding[]> {
  const servers = store.servers();
  const found = await Promise.all(
    servers.map(async (server) => {
      const subject = servers.length > 1 ? `${alias}:${server.id}` : alias;
      try {
        return checkServer(subject, await withinTime(ANSWER_MS, inspectServer(server)));
      } catch (error) {
        return [unreachable(alias, subject, error)];
      }
    }),
  );
  return found.flat();
}

/** The findings about one server; without a report it answers, and that is all that is known. */
export function checkServer(subject: string, report: MemcachedServerReport | undefined): Finding[] {
  if (!report) return [ok('reachable', subject, 'answers')];
  const { version, usedMemoryBytes, maxMemoryBytes, evictions, clock } = report;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < 1 || (major === 1 && minor < 6)) {
    return [problem('version', subject, `is memcached ${version}; 1.6 or later is needed`, ['-- upgrade it'])];
  }
  const message =
    `memcached ${version}, ${megabytes(usedMemoryBytes)} of ${megabytes(maxMemoryBytes)} used, ` +
    `${evictions.toLocaleString('en-US')} eviction${evictions === 1 ? '' : 's'} since its start`;
  return [ok('reachable', subject, message), ...checkClock(subject, clock)];
}
