import type { CacheStore } from '../../stores/CacheStore.js';
import { MemcachedStore } from '../../stores/memcached/MemcachedStore.js';
import { inspectServer, redisAccessOf, type RedisServerReport } from '../../stores/redis/inspect.js';
import { withinTime } from '../within-time.js';
import type { DoctorContext, Finding } from './finding.js';
import { checkMemcached } from './memcached.js';
import { ANSWER_MS, checkClock, megabytes, ok, problem, unreachable, warning } from './store-findings.js';

/** Policies that choose what to throw out so that a soft lock, which is young and in use, may go before the rest. */
const CARELESS = ['allkeys-random', 'volatile-random', 'allkeys-lfu', 'volatile-lfu'];

/** Whether the stores answer, and are set up as docs/operations.md says. */
export async function checkStores({ plus }: DoctorContext): Promise<Finding[]> {
  if (!plus) return [];
  const found = await Promise.all(plus.regions.aliases.map((alias) => checkStore(plus.regions, alias)));
  return found.flat();
}

async function checkStore(
  regions: { storeOf(alias: string): { readonly store: CacheStore } },
  alias: string,
): Promise<Finding[]> {
  try {
    const { store } = regions.storeOf(alias);
    const redis = redisAccessOf(store);
    if (redis) {
      const reports = await withinTime(ANSWER_MS, redis.eachServer(inspectServer));
      return reports.flatMap((report) => checkServer(reports.length > 1 ? `${alias}:${report.port}` : alias, report));
    }
    if (store instanceof MemcachedStore) return await checkMemcached(alias, store);
    await withinTime(ANSWER_MS, store.ping());
    return [ok('reachable', alias, store.capabilities.shared ? 'answers' : 'is in the memory of each process')];
  } catch (error) {
    return [unreachable(alias, alias, error)];
  }
}

/** The findings about one server. `subject` is the store, with the port when it has several servers. */
export function checkServer(subject: string, report: RedisServerReport): Finding[] {
  const findings = [checkVersion(subject, report), ...checkMemory(subject, report)];
  if (!report.isPrimary) {
    findings.push(
      problem('replica', subject, 'is a replica, which refuses writes', [
        '-- name the primary, or use redis+sentinel://',
      ]),
    );
  }
  const persistence = [...(report.appendOnly ? ['appendonly'] : []), ...(report.snapshots ? ['save'] : [])];
  if (persistence.length > 0) {
    findings.push(
      warning('persistence', subject, `writes to disk (${persistence.join(', ')}) what is never read back`, [
        ...(report.snapshots ? ['redis-cli CONFIG SET save ""'] : []),
        ...(report.appendOnly ? ['redis-cli CONFIG SET appendonly no'] : []),
        '-- and the same in redis.conf, unless others need it on this server',
      ]),
    );
  }
  return [...findings, ...checkClock(subject, report.clock)];
}

function checkVersion(subject: string, report: RedisServerReport): Finding {
  const { product, version, policy, usedMemoryBytes, maxMemoryBytes, clock, replicas } = report;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (product === 'Redis' && (major < 6 || (major === 6 && minor < 2))) {
    return problem('version', subject, `is Redis ${version}; 6.2 or later is needed`, ['-- upgrade it']);
  }
  const limit = maxMemoryBytes > 0 ? ` of ${megabytes(maxMemoryBytes)}` : '';
  return ok(
    'reachable',
    subject,
    `${product} ${version}, ${megabytes(usedMemoryBytes)}${limit} used, ${policy ?? 'unknown policy'}, ` +
      `${replicas} replica${replicas === 1 ? '' : 's'}, clock ${clock.offsetMs.toFixed(1)} ms off (± ${clock.exactToMs.toFixed(1)})`,
  );
}

function checkMemory(subject: string, { policy, maxMemoryBytes }: RedisServerReport): Finding[] {
  const remedy = ['redis-cli CONFIG SET maxmemory-policy allkeys-lru', '-- and the same in redis.conf'];
  if (policy === 'volatile-ttl') {
    const message = 'maxmemory-policy is volatile-ttl, which throws out soft locks first: readers may see old rows';
    return [problem('policy', subject, message, remedy)];
  }
  if (maxMemoryBytes === 0) {
    return [
      warning('no-limit', subject, "has no maxmemory: it grows until the machine's memory is used up", [
        'redis-cli CONFIG SET maxmemory <bytes>',
        ...remedy,
      ]),
    ];
  }
  if (policy === 'noeviction') {
    const message = 'maxmemory-policy is noeviction: once it is full nothing new is cached';
    return [warning('policy', subject, message, remedy)];
  }
  if (policy !== undefined && CARELESS.includes(policy)) {
    return [warning('policy', subject, `maxmemory-policy is ${policy}, which may throw out a soft lock`, remedy)];
  }
  return [];
}
