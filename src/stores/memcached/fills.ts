import { randomUUID } from 'node:crypto';
import type { FillEntry } from '../CacheStore.js';
import { liveEntry } from './entry.js';
import { newItem, type Items } from './Items.js';
import type { Change } from './Session.js';

type Permit<Kind> = Extract<FillEntry['permit'], { kind: Kind }>;

/**
 * Fills entries that still hold their reader's lease, of the present generations. Whoever removes or replaces the lease
 * after this has found it gives the entry another unique number, or none.
 *
 * Returns those that were written. No key may come twice.
 */
export async function fillUnderLease(items: Items, fills: readonly FillEntry[]): Promise<Set<FillEntry>> {
  const leased = fills.filter(({ permit }) => permit.kind === 'lease');
  const keys = leased.map(({ key }) => key);
  const [stamps, found] = await Promise.all([items.stamps(keys), items.find(keys)]);
  const changes = new Map<Change, FillEntry>();
  for (const fill of leased) {
    const stamp = stamps.get(fill.key);
    const was = found.get(fill.key)!;
    const entry = liveEntry(was.text, stamp);
    if (stamp !== undefined && entry?.kind === 'lease' && entry.content === (fill.permit as Permit<'lease'>).token) {
      changes.set({ found: was, to: valueItem(fill, stamp) }, fill);
    }
  }
  return written(await items.change([...changes.keys()]), changes);
}

/**
 * Fills entries under guards. The select is over, so it is enough that nothing was released or evicted between the
 * guard and a moment from which on the entry's unique number tells: first the number, then the sequence.
 *
 * - An evict whose sequence went before it was read here: the guard doesn't match any more.
 * - An evict whose sequence went later: it removes the entry after that, so after the number was read.
 *
 * An entry that is absent has no number, so a lease is put there first; and it is taken back if the fill is refused.
 *
 * Returns those that were written. No key may come twice.
 */
export async function fillUnderGuard(items: Items, fills: readonly FillEntry[]): Promise<Set<FillEntry>> {
  const isGuarded = ({ permit, value }: FillEntry) => permit.kind === 'guard' && value !== undefined;
  // Most refusals show here, and need no lease.
  const guarded = await withCurrentGuard(items, fills.filter(isGuarded));
  const stamps = await items.stamps(guarded.map(({ key }) => key));
  const token = randomUUID();
  const claims = new Map(
    guarded.flatMap(({ key, permit }) => {
      const stamp = stamps.get(key);
      const ms = endOf(permit as Permit<'guard'>) - Date.now();
      return stamp === undefined || ms <= 0
        ? []
        : [[key, newItem({ kind: 'lease', stamp, content: token }, ms)] as const];
    }),
  );
  const found = await items.find([...claims.keys()], (key) => claims.get(key)!);
  const allowed = new Set(await withCurrentGuard(items, guarded));
  const changes = new Map<Change, FillEntry>();
  for (const fill of guarded) {
    const was = found.get(fill.key);
    if (was?.unique !== undefined && (allowed.has(fill) || was.text === claims.get(fill.key)!.text)) {
      changes.set({ found: was, to: allowed.has(fill) ? valueItem(fill, stamps.get(fill.key)!) : undefined }, fill);
    }
  }
  return written(await items.change([...changes.keys()]), changes);
}

async function withCurrentGuard(items: Items, fills: readonly FillEntry[]): Promise<FillEntry[]> {
  const sequences = await items.sequences(fills.map(({ permit }) => (permit as Permit<'guard'>).region));
  return fills.filter(({ permit }) => {
    const { region, sequence } = permit as Permit<'guard'>;
    return sequences.get(region) === sequence.split(':')[0] && endOf(permit as Permit<'guard'>) > Date.now();
  });
}

function endOf({ sequence }: Permit<'guard'>): number {
  return Number(sequence.split(':')[1]);
}

/** `undefined`, which removes the lease, if there is no value. */
function valueItem({ value, ttlMs }: FillEntry, stamp: string): Change['to'] {
  return value === undefined ? undefined : newItem({ kind: 'value', stamp, content: value }, ttlMs);
}

function written(made: ReadonlySet<Change>, changes: ReadonlyMap<Change, FillEntry>): Set<FillEntry> {
  return new Set(Array.from(made).flatMap((change) => (change.to === undefined ? [] : [changes.get(change)!])));
}
