import type { CacheStore, ReadOptions, ReadResult } from './CacheStore.js';

/** Reads keys that several callers may ask for: the first of them gets the lease, as if the others had come later. */
export async function readEach(
  store: CacheStore,
  keys: readonly string[],
  options: ReadOptions,
): Promise<readonly ReadResult[]> {
  const distinct = new Map<string, number>();
  for (const key of keys) if (!distinct.has(key)) distinct.set(key, distinct.size);
  const results = await store.readMany([...distinct.keys()], options);
  if (distinct.size === keys.length) return results;
  const leased = new Set<string>();
  return keys.map((key) => {
    const result = results[distinct.get(key)!]!;
    if (result.kind !== 'leased') return result;
    return leased.size === leased.add(key).size ? { kind: 'miss' } : result;
  });
}
