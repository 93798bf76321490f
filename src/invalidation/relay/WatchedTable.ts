import { rowKeyText } from '../../codec/primary-key.js';
import type { EntityManager, Row } from '../../orm/context.js';
import type { Meta } from '../../orm/metadata.js';
import { keyColumns } from '../../orm/statement.js';
import type { Region } from '../../stores/Region.js';

/** Entries that a store is told of at a time, so that its time limit fits them. */
const CHUNK = 500;

/** A cached table, as the log names it, and the way from its rows to the entries of its region. */
export class WatchedTable {
  readonly name: string;
  /** `undefined`: the table of that name in any schema, as `em.fork({ schema })` chooses. */
  readonly schema: string | undefined;
  /** Columns of the primary key, as MikroORM selects them, over the alias `t0`. */
  readonly keyColumns: string;
  readonly region: Region;
  readonly #em: EntityManager;
  readonly #meta: Meta;
  /** In which the table is when a statement names no schema; where that is, the search path says. */
  readonly #defaultSchema: string | undefined;

  /** @param meta the root class of the table */
  constructor(em: EntityManager, meta: Meta, region: Region) {
    this.#em = em;
    this.#meta = meta;
    this.region = region;
    this.name = meta.tableName;
    this.schema = meta.schema === '*' ? undefined : meta.schema;
    this.keyColumns = keyColumns(em.getDriver(), meta);
    this.#defaultSchema = em.getPlatform().getDefaultSchemaName();
  }

  /** Alias of the store that holds the rows. */
  get store(): string {
    return this.region.store.alias;
  }

  /** Whether the rows are kept in this process alone, so that each process has to follow the changes itself. */
  get isLocal(): boolean {
    return !this.region.store.store.capabilities.shared;
  }

  isNamed(schema: string, name: string): boolean {
    return name === this.name && (this.schema === undefined || this.schema === schema);
  }

  /**
   * Removes rows from the cache; all of the table when a key can't be read.
   *
   * @returns whether the store has confirmed it
   */
  async evict(schema: string, keys: readonly Row[]): Promise<boolean> {
    // with a pause after each chunk, in which the application can go on
    for (let start = 0; start < keys.length; start += CHUNK) {
      const texts = keys.slice(start, start + CHUNK).map((key) => rowKeyText(this.#em, this.#meta, key));
      if (texts.includes(undefined)) return this.evictAll();
      if (!(await this.#evictTexts(schema, texts as string[]))) return false;
    }
    return true;
  }

  /**
   * Removes all rows of the table from the cache, in all schemas.
   *
   * @returns whether the store has confirmed it
   */
  async evictAll(): Promise<boolean> {
    const { region } = this;
    try {
      await region.store.clear(region.name);
    } catch {
      return false;
    }
    region.near?.dropAll();
    region.count('eviction');
    return true;
  }

  async #evictTexts(schema: string, texts: readonly string[]): Promise<boolean> {
    const { region } = this;
    const keys = new Set(this.#schemas(schema).flatMap((each) => texts.map((text) => region.objectKey(each, text))));
    if (!(await region.store.evictMany([...keys].map((key) => ({ key, region: region.name }))))) return false;
    region.near?.drop([...keys]);
    region.count('eviction', keys.size);
    return true;
  }

  /** Under which schemas the entries of a row may be named. To remove one too many costs a query, one too few a lie. */
  #schemas(schema: string): (string | undefined)[] {
    return this.schema === undefined ? [...new Set([schema, this.#defaultSchema])] : [this.schema];
  }
}
