import { ConfigurationError } from '../../errors.js';
import type { LockEntry, ReadResult } from '../CacheStore.js';
import { milliseconds, sequenceKey } from '../limits.js';
import type { RedisClientLike } from './redis-client.js';
import { TERM_LENGTH } from './scripts.js';

// What both Redis stores put into commands and get out of replies.

/** Life of a sequence after its last use. Only memory depends on it: losing a sequence is always safe. */
export const SEQUENCE_MS = 24 * 60 * 60 * 1_000;

/** Most entries in one script call, some ten milliseconds of the server's time, and most calls under way at once. */
export const PART_SIZE = 1_000;

/** Keys that the server looks at per step of `clear`. */
const SCAN_COUNT = '1000';

const STORED_VALUE = 'v';
const STORED_LEASE = 'r';

/** What the script READ says of an entry; `token` is that of the read. */
export function readResult(reply: string, token: string): ReadResult {
  switch (reply.charAt(0)) {
    case STORED_VALUE:
      return { kind: 'hit', value: reply.slice(STORED_VALUE.length + TERM_LENGTH) };
    case STORED_LEASE:
      return { kind: 'leased', token };
    default:
      return { kind: 'miss' };
  }
}

/** The arguments of a script that may store a value. */
export function storedValue(value: string | undefined, ttlMs: number | undefined): [stored: string, ttlMs: string] {
  return value === undefined ? ['', '0'] : [STORED_VALUE + value, String(milliseconds('ttlMs', ttlMs))];
}

export function keysOf(entries: readonly LockEntry[]): string[] {
  return entries.map(({ key }) => key);
}

export function sequencesOf(entries: readonly LockEntry[]): Set<string> {
  return new Set(entries.map(({ region }) => sequenceKey(region)));
}

/** The patterns that `clear` looks for, sequences first. */
export function clearPatterns(prefix: string): [sequences: string, everything: string] {
  if (prefix === '') {
    throw new ConfigurationError("An empty prefix would clear other applications' keys too. Name a prefix.");
  }
  // The end of every sequence key, without its colon, which may be the end of `prefix`.
  return [`${literal(prefix)}*seq`, `${literal(prefix)}*`];
}

/** Text as a part of a pattern that matches just it. */
export function literal(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&');
}

/**
 * Lets `work` go through one server's keys, and makes sure that it was one primary in one term from first to last. A
 * demoted one would answer SCAN all the same, and a client may connect to another server between two steps.
 */
export async function onPrimary(client: RedisClientLike, work: () => Promise<void>): Promise<void> {
  const term = await termOf(client);
  await work();
  if ((await termOf(client)) !== term) {
    throw new Error('A failover came between: some entries of the new primary may not have been seen.');
  }
}

async function termOf(client: RedisClientLike): Promise<string | undefined> {
  const info = String(await client.call('INFO', ['replication']));
  if (!info.includes('role:master')) {
    throw new Error('READONLY This server is not a primary (any more).');
  }
  return /master_replid:(\w+)/.exec(info)?.[1];
}

/** Yields the keys of one server that match, in steps, each of them at least once. */
export async function* scan(client: RedisClientLike, pattern: string): AsyncGenerator<string[]> {
  let cursor = '0';
  do {
    // Only strings: under our prefix there should be nothing else, and a script would stumble over it.
    const args = [cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT, 'TYPE', 'string'];
    const [next, keys] = (await client.call('SCAN', args)) as [string, string[]];
    if (keys.length > 0) {
      yield keys;
    }
    cursor = next;
  } while (cursor !== '0');
}
