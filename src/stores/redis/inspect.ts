import type { RedisAccess, RedisClientLike } from './redis-client.js';
import { RedisClusterStore } from './RedisClusterStore.js';
import { RedisStore } from './RedisStore.js';
import { literal, scan } from './wire.js';
import type { CacheStore } from '../CacheStore.js';

/** What one Redis (or Valkey) server says of itself. */
export interface RedisServerReport {
  readonly product: 'Redis' | 'Valkey';
  readonly version: string;
  /** Its port; tells the nodes of a cluster apart. */
  readonly port: string;
  readonly isPrimary: boolean;
  readonly replicas: number;
  readonly usedMemoryBytes: number;
  /** 0: no limit. */
  readonly maxMemoryBytes: number;
  /** `undefined` when the server doesn't say. */
  readonly policy: string | undefined;
  readonly appendOnly: boolean;
  /** Whether snapshots are written from time to time; `undefined` when the account may not ask. */
  readonly snapshots: boolean | undefined;
  /** Its clock minus that of this process, in milliseconds, and how exactly that is known. */
  readonly clock: { readonly offsetMs: number; readonly exactToMs: number };
}

/** Entries of one region, in all states. */
export interface EntryCount {
  rows: number;
  lookups: number;
}

/** A store's way to its servers, if it is in Redis and one of the library's own. */
export function redisAccessOf(store: CacheStore): RedisAccess | undefined {
  return store instanceof RedisStore || store instanceof RedisClusterStore ? store : undefined;
}

/** Asks a server about itself. Needs `INFO` and `TIME`, and `CONFIG GET` if it may. */
export async function inspectServer(client: RedisClientLike): Promise<RedisServerReport> {
  const info = parseInfo(String(await client.call('INFO', [])));
  const isValkey = info.has('valkey_version');
  return {
    product: isValkey ? 'Valkey' : 'Redis',
    version: info.get('valkey_version') ?? info.get('redis_version') ?? '',
    port: info.get('tcp_port') ?? '',
    isPrimary: info.get('role') === 'master',
    replicas: Number(info.get('connected_slaves') ?? 0),
    usedMemoryBytes: Number(info.get('used_memory') ?? 0),
    maxMemoryBytes: Number(info.get('maxmemory') ?? 0),
    policy: info.get('maxmemory_policy'),
    appendOnly: info.get('aof_enabled') === '1',
    snapshots: await takesSnapshots(client),
    clock: await clockOf(client),
  };
}

/** Counts the entries below `prefix` by region, on all servers. Looks at every key that they hold. */
export async function countEntries(access: RedisAccess, prefix: string): Promise<Map<string, EntryCount>> {
  const counts = new Map<string, EntryCount>();
  await access.eachServer(async (client) => {
    for await (const keys of scan(client, `${literal(prefix)}:*`)) {
      for (const key of keys) {
        const [, region, kind] = /^(.*):([ol]):[\w-]+$/s.exec(key) ?? [];
        if (region === undefined) continue;
        const count = counts.get(region) ?? { rows: 0, lookups: 0 };
        counts.set(region, count);
        count[kind === 'o' ? 'rows' : 'lookups'] += 1;
      }
    }
  });
  return counts;
}

function parseInfo(text: string): Map<string, string> {
  const pairs = text.split(/\r?\n/).map((line) => /^(\w+):(.*)$/.exec(line));
  return new Map(pairs.flatMap((pair) => (pair ? [[pair[1]!, pair[2]!] as const] : [])));
}

async function takesSnapshots(client: RedisClientLike): Promise<boolean | undefined> {
  try {
    const reply = (await client.call('CONFIG', ['GET', 'save'])) as string[];
    return reply[1] === undefined ? undefined : reply[1] !== '';
  } catch {
    return undefined;
  }
}

async function clockOf(client: RedisClientLike): Promise<RedisServerReport['clock']> {
  const [wall, start] = [Date.now(), performance.now()];
  const [seconds, microseconds] = (await client.call('TIME', [])) as [string, string];
  const exactToMs = (performance.now() - start) / 2;
  return { offsetMs: Number(seconds) * 1_000 + Number(microseconds) / 1_000 - (wall + exactToMs), exactToMs };
}
