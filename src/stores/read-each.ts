import type { CacheStore, ReadOptions, ReadResult } from './CacheStore.js';

/** Reads keys that several callers may ask for: the first of them gets the lease, as if the others had come later. */
export function readEach(
  store: CacheStore,
  keys: readonly string[],
  options: ReadOptions,
): Promise<readonly ReadResult[]> {
  const distinct = [...new Set(keys)];
  const reading = store.readMany(distinct, options);
  if (distinct.length === keys.length) return reading;
  return reading.then((results) => {
    const byKey = new Map(distinct.map((key, index) => [key, results[index]!]));
    const leased = new Set<string>();
    return keys.map((key) => {
      const result = byKey.get(key)!;
      return result.kind === 'leased' && leased.size === leased.add(key).size ? { kind: 'miss' } : result;
    });
  });
}
