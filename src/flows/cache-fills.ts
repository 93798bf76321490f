import { lookupKeyText, primaryKeyText } from '../codec/primary-key.js';
import type { FillEntry } from '../stores/CacheStore.js';
import type { Entry, Trail } from './batch.js';
import { hintEntry, isCommitted, keyOfAnswer, mayAnswer, remember, serves, type CallRegion } from './call-region.js';

/**
 * Stores what a call read or created, as far as leases and guards still allow it.
 *
 * @param entries of which those without a trail were none of the cache's
 * @param guard taken before the rows were read; `undefined` when none was needed, or none was given
 */
export async function fillRegion(
  view: CallRegion,
  entries: readonly Entry[],
  guard: string | undefined,
): Promise<void> {
  const fills: Fills = { objects: [], hints: [] };
  const misled: Entry[] = [];
  for (const entry of entries) {
    const { trail } = entry;
    if (!trail) continue;
    const key = keyOfAnswer(view, entry);
    collect(view, entry, trail, key, guard, fills);
    if (trail.hinted && key !== undefined && key !== trail.objectKey) misled.push(entry);
  }
  const { objects, hints } = fills;
  const { region } = view;
  const [filled] = await Promise.all([
    objects.length > 0 ? region.store.fillMany(objects) : [],
    hints.length > 0 ? view.hints.fillMany(hints) : [],
    misled.length > 0 ? replaceHints(view, misled) : undefined,
  ]);
  // what is stored now is newer than this process's copy, even before the store tells so
  region.near?.drop(objects.flatMap(({ key, value }) => (value === undefined ? [] : [key])));
  const put = filled.filter((_, index) => objects[index]!.value !== undefined);
  const stored = put.filter(Boolean).length;
  region.count('fill', stored);
  region.count('refused-fill', put.length - stored);
}

/** Lets rows that are in the store, or will be, be found by their lookups. */
export async function putHints(view: CallRegion, entries: readonly Entry[]): Promise<void> {
  if (!mayAnswer(view)) return;
  const { ttl: ttlMs, leaseTtl: leaseMs } = view.region.options;
  const found = entries.filter(({ lookup }) => serves(view, lookup) && lookupKeyText(lookup) === undefined);
  if (found.length === 0) return;
  const keys = found.map(({ lookup }) => hintEntry(view, lookup));
  const results = await view.hints.readMany(keys, { leaseMs });
  const fills = found.flatMap(({ answer }, index): FillEntry[] => {
    const result = results[index]!;
    if (result.kind !== 'leased') return [];
    const permit = { kind: 'lease', token: result.token } as const;
    return [{ key: keys[index]!.key, value: primaryKeyText(answer!.entity), ttlMs, permit }];
  });
  if (fills.length > 0) await view.hints.fillMany(fills);
}

/** A hint that led to another row than the lookup's would send every call to the database until it expires. */
async function replaceHints(view: CallRegion, entries: readonly Entry[]): Promise<void> {
  await view.hints.evictMany(entries.map(({ lookup }) => hintEntry(view, lookup)));
  for (const { lookup } of entries) remember(view, lookup, undefined);
  await putHints(
    view,
    entries.filter((entry) => isCommitted(view, entry)),
  );
}

interface Fills {
  readonly objects: FillEntry[];
  readonly hints: FillEntry[];
}

/** @param key of the row that answered, if its row may be stored */
function collect(
  view: CallRegion,
  entry: Entry,
  trail: Trail,
  key: string | undefined,
  guard: string | undefined,
  { objects, hints }: Fills,
): void {
  const { region } = view;
  const { ttl: ttlMs } = region.options;
  const { objectKey, objectToken: token, hintToken } = trail;
  const answer = key !== undefined && isCommitted(view, entry) ? entry.answer : undefined;
  const value = answer && !answer.updated ? region.encode(answer.row!, key!) : undefined;
  if (token !== undefined && objectKey !== undefined) {
    const own = objectKey === key ? value : undefined;
    objects.push({ key: objectKey, value: own, ttlMs, permit: { kind: 'lease', token } });
  }
  if (value !== undefined && (token === undefined || objectKey !== key) && guard !== undefined) {
    objects.push({ key: key!, value, ttlMs, permit: { kind: 'guard', region: region.name, sequence: guard } });
  }
  if (hintToken === undefined) return;
  const hint = answer && primaryKeyText(answer.entity);
  const permit = { kind: 'lease', token: hintToken } as const;
  hints.push({ key: hintEntry(view, entry.lookup).key, value: hint, ttlMs, permit });
}
