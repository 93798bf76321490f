import { IsolationLevel, type EntityManager } from '@mikro-orm/postgresql';
import type { Random } from './random.js';
import { Row, rowName } from './row.js';
import { nowDown } from './protocol.js';

interface ReadRow {
  readonly id: number;
  readonly name: string;
  readonly version: number;
}

/** What one call read, and when it began. */
export interface Reading {
  readonly start: number;
  readonly rows: readonly ReadRow[];
}

/** The ways to read, by weight. */
const ways = {
  name: 40,
  id: 12,
  many: 6,
  'name in a transaction': 8,
  'id in a transaction': 6,
  'name in a transaction that has written': 3,
  'name in repeatable read': 4,
  refresh: 5,
  evict: 1,
} as const;
export type ReadWay = keyof typeof ways;

/** Reads rows through a fresh EntityManager, as a request would. */
export class Reads {
  readonly #em: EntityManager;
  readonly #random: Random;
  readonly #rows: number;
  /** Of rows that were read before; they may be gone. */
  readonly #ids = new Map<string, number>();

  constructor(em: EntityManager, random: Random, rows: number) {
    this.#em = em;
    this.#random = random;
    this.#rows = rows;
  }

  pickWay(): ReadWay {
    return this.#random.weighted(ways);
  }

  async read(way: ReadWay): Promise<Reading> {
    const em = this.#em.fork();
    const name = rowName(this.#random.whole(0, this.#rows - 1));
    const { start, rows } = await this.#readAs(way, em, name);
    for (const row of rows) this.#ids.set(row.name, row.id);
    return { start, rows: rows.map(({ id, name: ofRow, version }) => ({ id, name: ofRow, version })) };
  }

  async #readAs(way: ReadWay, em: EntityManager, name: string): Promise<Reading> {
    switch (way) {
      case 'name':
        return this.#byName(em, name);
      case 'id':
        return this.#byId(em, name);
      case 'many': {
        const names = Array.from({ length: this.#rows }, (_value, index) => ({ name: rowName(index) }));
        const start = nowDown();
        const got = await em.getRepository(Row).getOrCreateMany(names);
        return { start, rows: got.map(([row]) => row) };
      }
      case 'name in a transaction':
        return em.transactional((inner) => this.#byName(inner, name));
      case 'id in a transaction':
        return em.transactional((inner) => this.#byId(inner, name));
      case 'name in a transaction that has written':
        return em.transactional(async (inner) => {
          await inner.execute('select pg_current_xact_id()');
          return this.#byName(inner, name);
        });
      case 'name in repeatable read': {
        const start = nowDown();
        const isolationLevel = IsolationLevel.REPEATABLE_READ;
        try {
          const { rows } = await em.transactional((inner) => this.#byName(inner, name), {
            isolationLevel,
          });
          return { start, rows };
        } catch (error) {
          // what PostgreSQL says when another transaction creates a row that is gone in this one's snapshot
          if (!/could not serialize access/.test(String(error))) throw error;
          return { start, rows: [] };
        }
      }
      case 'refresh':
        return this.#byName(em, name, { refresh: true });
      case 'evict':
      default:
        await em.getRepository(Row).evict({ name });
        return this.#byName(em, name);
    }
  }

  async #byName(em: EntityManager, name: string, options?: { refresh: boolean }): Promise<Reading> {
    const start = nowDown();
    const [row] = await em.getRepository(Row).getOrCreate({ name }, {}, options);
    return { start, rows: [row] };
  }

  /** A row that is gone can't be created from its primary key alone: nothing is read then. */
  async #byId(em: EntityManager, name: string): Promise<Reading> {
    const id = this.#ids.get(name);
    if (id === undefined) return this.#byName(em, name);
    const start = nowDown();
    try {
      const [row] = await em.getRepository(Row).getOrCreate({ id });
      return { start, rows: [row] };
    } catch (error) {
      if (!/name/.test(String(error))) throw error;
      this.#ids.delete(name);
      return { start, rows: [] };
    }
  }
}
