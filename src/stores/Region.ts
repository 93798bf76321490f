import type { ResolvedRegion } from '../config/region-options.js';
import { fingerprint, lookupKey, objectKey } from '../codec/keys.js';
import { checkRow, decodeRow, encodeRow, rowOf, type CheckedRow } from '../codec/row-codec.js';
import { ConfigurationError } from '../errors.js';
import type { Lookup } from '../natural-keys/lookup.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import type { Row } from '../orm/context.js';
import { isInlineEmbedded, loadedProps, type Meta, type Prop } from '../orm/metadata.js';
import { SharedData, type Data } from '../orm/SharedData.js';
import { columnsOfProp } from '../orm/statement.js';
import { isHeard, publish, type CacheEvent } from '../observability/channels.js';
import type { Statistics } from '../observability/statistics.js';
import type { Copy, NearCache } from '../near-cache/NearCache.js';
import type { LockEntry, ReadResult } from './CacheStore.js';
import { Directions } from './Directions.js';
import type { GuardedStore } from './GuardedStore.js';

/** What is made of a row's copy. */
interface DecodedCopy {
  /** Nothing for what isn't a row of this region. */
  readonly row: CheckedRow | undefined;
  /** Only of a row that entities can share. */
  data: SharedData | undefined;
}

/** Data that nobody else has. */
type OwnData = Pick<SharedData, 'values' | 'copy'>;

type NearCopy = Copy<DecodedCopy>;
export type RegionCopies = NearCache<DecodedCopy>;

/** What a {@link Region} is made of. */
export interface RegionParts {
  readonly name: string;
  readonly options: ResolvedRegion;
  readonly store: GuardedStore;
  readonly statistics: Statistics;
  /** Copies in this process, if the region has them. */
  readonly near: RegionCopies | undefined;
  /**
   * For rows in this process's own memory that other processes change too: whether all changes are known here, up to the
   * region's `maxStaleness`. While they aren't, nothing is served or stored.
   */
  readonly isFollowed?: (() => boolean) | undefined;
}

/** What a read found, and whether this process had it. */
export type RegionRead = ReadResult & { readonly isNear?: boolean };

const MISS = { kind: 'miss' } as const;

/** Lookups whose rows' keys a region remembers at least. */
const REMEMBERED = 10_000;

const counterOf = {
  fill: 'fills',
  'refused-fill': 'refusedFills',
  'soft-lock': 'softLocks',
  eviction: 'evictions',
} as const satisfies Record<CacheEvent, keyof Statistics>;

/** The entries of one entity: where they live, how they are named and written. */
export class Region {
  readonly name: string;
  readonly options: ResolvedRegion;
  readonly store: GuardedStore;
  readonly near: RegionCopies | undefined;
  readonly #statistics: Statistics;
  readonly #entity: string;
  readonly #isFollowed: () => boolean;
  /** Where lookups led lately. */
  readonly #directions: Directions;
  readonly #cached: ReadonlySet<string>;
  readonly #columns: readonly string[];
  readonly #fingerprint: string;

  constructor(meta: Meta, parts: RegionParts) {
    const { options, near } = parts;
    this.name = parts.name;
    this.options = options;
    this.store = parts.store;
    this.#statistics = parts.statistics;
    this.near = near;
    this.#entity = meta.className;
    this.#isFollowed = parts.isFollowed ?? (() => true);
    this.#directions = new Directions(Math.max(REMEMBERED, near?.maxEntries ?? 0));
    const excluded = excludedNames(meta, options.exclude);
    const props = loadedProps(meta).filter(({ name }) => !excluded.has(name));
    this.#cached = new Set(props.map(({ name }) => name));
    this.#columns = props.flatMap(columnsOfProp);
    this.#fingerprint = fingerprint(props.map(shapeOf));
  }

  /** The region of the lookups that lead to these entries. */
  get hintRegion(): string {
    return `${this.name}:hints`;
  }

  /** Counts what was done to entries, and tells it to the cache channel. */
  count(event: CacheEvent, entries = 1): void {
    if (entries === 0) return;
    this.#statistics[counterOf[event]] += entries;
    if (isHeard('cache')) publish('cache', { entity: this.#entity, event, entries });
  }

  /** Whether a lookup can be checked on a cached row. */
  covers(lookup: Lookup): boolean {
    return lookup.parts.every(({ prop }) => this.#cached.has(prop.name));
  }

  objectKey(schema: string | undefined, primaryKey: string): string {
    return objectKey(this.name, schema, primaryKey);
  }

  lookupKey(schema: string | undefined, lookup: Lookup): string {
    return lookupKey(this.name, schema, lookup);
  }

  /**
   * The key of the row that the entry of a lookup led to when it was last read: that saves the look for the entry, and
   * may be wrong as the entry may be.
   */
  recall(plan: LookupPlan, schema: string | undefined, lookup: Lookup): string | undefined {
    return this.#directions.get(plan, schema, lookup.values);
  }

  /** Remembers where a lookup led; nothing to forget it. */
  remember(plan: LookupPlan, schema: string | undefined, lookup: Lookup, row: string | undefined): void {
    this.#directions.set(plan, schema, lookup.values, row);
  }

  /** Reads entries of lookups, from the store that holds them. */
  async readHints(hints: GuardedStore, entries: readonly LockEntry[]): Promise<readonly ReadResult[]> {
    return this.#isFollowed() ? hints.readMany(entries, { leaseMs: this.options.leaseTtl }) : entries.map(() => MISS);
  }

  /** Reads rows, copies in this process first. */
  async read(entries: readonly LockEntry[]): Promise<readonly RegionRead[]> {
    if (!this.#isFollowed()) return entries.map(() => MISS);
    const results = this.near
      ? await this.#readNear(this.near, entries)
      : await this.store.readMany(entries, { leaseMs: this.options.leaseTtl });
    // asked again: a store that isn't this library's may take its time
    return this.#isFollowed() ? results : entries.map(() => MISS);
  }

  /** A guard for rows whose keys aren't known yet; `undefined` when nothing may be stored. */
  async guard(): Promise<string | undefined> {
    return this.#isFollowed() ? this.store.guard(this.name, this.options.leaseTtl) : undefined;
  }

  async #readNear(near: RegionCopies, entries: readonly LockEntry[]): Promise<RegionRead[]> {
    const copies = entries.map((entry) => this.copyOf(entry)?.text);
    const missing = entries.filter((_, index) => copies[index] === undefined);
    const ticket = near.begin();
    const results = missing.length > 0 ? await this.store.readMany(missing, { leaseMs: this.options.leaseTtl }) : [];
    const found = new Map(missing.map(({ key }, index) => [key, results[index]!]));
    for (const [key, result] of found) if (result.kind === 'hit') near.put(key, result.value, ticket);
    return entries.map(({ key }, index): RegionRead => {
      const copy = copies[index];
      return copy === undefined ? found.get(key)! : { kind: 'hit', value: copy, isNear: true };
    });
  }

  encode(row: Row, key: string): string | undefined {
    return encodeRow(row, this.#columns, { key, fingerprint: this.#fingerprint });
  }

  decode(text: string, key: string): Row | undefined {
    return decodeRow(text, this.#columns, { key, fingerprint: this.#fingerprint });
  }

  /** A copy of a row's entry in this process, unless the store is known to be behind. */
  copyOf(entry: LockEntry): NearCopy | undefined {
    return this.store.isBypassed(entry) || !this.#isFollowed() ? undefined : this.near?.copyOf(entry.key);
  }

  /**
   * What `map` makes of a row's copy, in a form to look at and one for an entity to keep. A copy is checked once, and
   * mapped once if it can be shared. Nothing for what isn't a row of this region.
   */
  mapCopy(copy: NearCopy, key: string, map: (row: Row) => Data): SharedData | OwnData | undefined {
    copy.decoded ??= {
      row: checkRow(copy.text, this.#columns, { key, fingerprint: this.#fingerprint }),
      data: undefined,
    };
    const { row, data } = copy.decoded;
    if (!row || data) return data;
    const values = map(rowOf(row, this.#columns));
    copy.decoded.data = row.shared && SharedData.of(values);
    return copy.decoded.data ?? { values, copy: () => values };
  }
}

/** The names of all properties with columns that `exclude` takes out, with those of inline embeddables. */
function excludedNames(meta: Meta, exclude: readonly string[]): Set<string> {
  const props = meta.root.properties as Record<string, Prop>;
  const names = exclude.flatMap((name) => {
    const prop = Object.hasOwn(props, name) ? props[name] : undefined;
    // without the version, a flush after a hit would overwrite what others have changed since
    const needed =
      prop && (prop.primary || name === meta.root.discriminatorColumn || name === meta.root.versionProperty);
    if (!prop || needed) {
      const problem = prop ? 'is needed to find or to update the row' : `is no property of ${meta.className}`;
      throw new ConfigurationError(`The cache region of ${meta.className} excludes '${name}', which ${problem}.`, {
        entity: meta.className,
      });
    }
    return leafNames(prop);
  });
  return new Set(names);
}

function leafNames(prop: Prop): string[] {
  return isInlineEmbedded(prop) ? Object.values(prop.embeddedProps).flatMap(leafNames) : [prop.name];
}

/** What must be the same for a stored row to mean the same. */
function shapeOf(prop: Prop): unknown[] {
  return [
    prop.name,
    columnsOfProp(prop),
    prop.columnTypes ?? [],
    prop.customType?.constructor.name ?? '',
    prop.kind,
    prop.runtimeType ?? '',
  ];
}
