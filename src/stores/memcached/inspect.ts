import type { Server } from './Server.js';

/** What one memcached server says of itself. */
export interface MemcachedServerReport {
  readonly version: string;
  readonly usedMemoryBytes: number;
  readonly maxMemoryBytes: number;
  /** Items that were thrown out, since the server started, to make room for others. */
  readonly evictions: number;
  /** Its clock minus that of this process, in milliseconds, and how exactly that is known. */
  readonly clock: { readonly offsetMs: number; readonly exactToMs: number };
}

/** It tells whole seconds, and moves on once a second. */
const TICK_MS = 1_000;

/** Asks a server about itself. `undefined` when it answers, but its connection has no way to ask. */
export async function inspectServer(server: Pick<Server, 'stats'>): Promise<MemcachedServerReport | undefined> {
  const [wall, start] = [Date.now(), performance.now()];
  const stats = await server.stats();
  const half = (performance.now() - start) / 2;
  const { version, bytes, limit_maxbytes: limit, evictions, time } = stats;
  if (version === undefined) return undefined;
  return {
    version,
    usedMemoryBytes: Number(bytes ?? 0),
    maxMemoryBytes: Number(limit ?? 0),
    evictions: Number(evictions ?? 0),
    clock: { offsetMs: Number(time ?? 0) * 1_000 - (wall + half), exactToMs: half + TICK_MS },
  };
}
