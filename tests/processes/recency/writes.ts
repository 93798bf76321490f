import { LockMode, type EntityManager } from '@mikro-orm/postgresql';
import type { Random } from './random.js';
import { Row, rowName } from './row.js';

/** The ways to write, by weight. */
const ways = {
  'flush in a transaction': 16,
  'implicit flush': 8,
  updateOrCreate: 16,
  'updateOrCreate in a transaction': 8,
  'repository.nativeUpdate': 10,
  'repository.nativeUpdate in a transaction': 5,
  'repository.upsert': 5,
  'em.upsert': 8,
  'em.upsert in a transaction': 6,
  'begin and commit': 6,
  'two rows': 6,
  'after a savepoint that was rolled back': 6,
  'in a savepoint': 5,
  'rolled back': 6,
  'rolled back after updateOrCreate': 4,
  'failing at COMMIT': 3,
  'repository.nativeDelete': 2,
  'em.remove': 2,
} as const;
export type WriteWay = keyof typeof ways;

interface Change {
  readonly row: string;
  readonly id: number;
  /** `undefined`: the row was deleted. */
  readonly version: number | undefined;
}

/** Thrown by a transaction that is meant to be rolled back. */
export class MeantToFail extends Error {}

/** Writes rows through a fresh EntityManager, each time in another way. */
export class Writes {
  readonly #em: EntityManager;
  readonly #random: Random;
  readonly #rows: number;
  readonly #takeSlowCommit: () => number;

  constructor(em: EntityManager, random: Random, rows: number, takeSlowCommit: () => number) {
    this.#em = em;
    this.#random = random;
    this.#rows = rows;
    this.#takeSlowCommit = takeSlowCommit;
  }

  pickWay(): WriteWay {
    return this.#random.weighted(ways);
  }

  pickRow(): string {
    return rowName(this.#random.whole(0, this.#rows - 1));
  }

  async newVersion(): Promise<number> {
    const [row] = await this.#em
      .fork()
      .execute<{ version: number }[]>(`select nextval('checked_version')::int as version`);
    return row!.version;
  }

  /** Gives `row` at least `version`, or deletes it. What it returns is committed; an error may leave it open. */
  async write(way: WriteWay, row: string, version: number): Promise<Change[]> {
    const em = this.#em.fork();
    const repository = em.getRepository(Row);
    const changed = (id: number): Change[] => [{ row, id, version }];
    switch (way) {
      case 'flush in a transaction':
        return this.#in(em, (inner) => this.#bump(inner, row, version));
      case 'implicit flush': {
        const entity = await em.findOne(Row, { name: row });
        if (!entity) return [];
        entity.version = version;
        await em.flush();
        return changed(entity.id);
      }
      case 'updateOrCreate': {
        const [entity] = await repository.updateOrCreate({ name: row }, { version });
        return changed(entity.id);
      }
      case 'updateOrCreate in a transaction':
        return this.#in(em, async (inner) => {
          const [entity] = await inner.getRepository(Row).updateOrCreate({ name: row }, { version });
          return changed(entity.id);
        });
      case 'repository.nativeUpdate':
      case 'repository.nativeUpdate in a transaction': {
        const found = await em.fork().findOne(Row, { name: row });
        if (!found) return [];
        const update = async (inner: EntityManager): Promise<Change[]> =>
          (await inner.getRepository(Row).nativeUpdate({ id: found.id }, { version })) === 1 ? changed(found.id) : [];
        return way === 'repository.nativeUpdate' ? update(em) : this.#in(em, update);
      }
      case 'repository.upsert':
        return changed((await repository.upsert({ name: row, version })).id);
      case 'em.upsert':
        return changed((await em.upsert(Row, { name: row, version })).id);
      case 'em.upsert in a transaction':
        return this.#in(em, async (inner) => changed((await inner.upsert(Row, { name: row, version })).id));
      case 'begin and commit':
        return this.#beginAndCommit(em, row, version);
      case 'two rows':
        return this.#in(em, async (inner) => {
          const both = [...new Set([row, this.pickRow()])].toSorted();
          const changes: Change[] = [];
          for (const each of both) changes.push(...(await this.#bump(inner, each, version)));
          return changes;
        });
      case 'after a savepoint that was rolled back':
        return this.#in(em, async (inner) => {
          const undone = inner.transactional(async (nested) => {
            await this.#bump(nested, row, version);
            throw new MeantToFail('the savepoint is meant to fail');
          });
          await undone.catch((error: unknown) => {
            if (!(error instanceof MeantToFail)) throw error;
          });
          return this.#bump(inner, row, version);
        });
      case 'in a savepoint':
        return this.#in(em, (inner) => inner.transactional((nested) => this.#bump(nested, row, version)));
      case 'rolled back':
        return this.#in(em, async (inner) => {
          await this.#bump(inner, row, version);
          await inner.flush();
          throw new MeantToFail('the transaction is meant to fail');
        });
      case 'rolled back after updateOrCreate':
        return this.#in(em, async (inner) => {
          await inner.getRepository(Row).updateOrCreate({ name: row }, { version });
          throw new MeantToFail('the transaction is meant to fail');
        });
      case 'failing at COMMIT':
        return this.#in(em, async (inner) => {
          await inner.execute(`set local checked.fail_commit = 'on'`);
          return this.#bump(inner, row, version);
        });
      case 'repository.nativeDelete': {
        const found = await em.fork().findOne(Row, { name: row });
        if (!found || (await repository.nativeDelete({ id: found.id })) !== 1) return [];
        return [{ row, id: found.id, version: undefined }];
      }
      case 'em.remove':
      default:
        return this.#in(em, async (inner) => {
          const entity = await this.#locked(inner, row);
          if (!entity) return [];
          inner.remove(entity);
          return [{ row, id: entity.id, version: undefined }];
        });
    }
  }

  /** Whether a flush that doesn't tell has found its row: ids never come back, so it did if the row is still there. */
  async exists(id: number): Promise<boolean> {
    const rows = await this.#em.fork().execute<object[]>('select 1 from checked_row where id = ?', [id]);
    return rows.length === 1;
  }

  #in<T>(em: EntityManager, work: (inner: EntityManager) => Promise<T>): Promise<T> {
    return em.transactional(async (inner) => {
      await this.#maybeSlowCommit(inner);
      return work(inner);
    });
  }

  async #beginAndCommit(em: EntityManager, row: string, version: number): Promise<Change[]> {
    await em.begin();
    try {
      await this.#maybeSlowCommit(em);
      const changes = await this.#bump(em, row, version);
      await em.commit();
      return changes;
    } catch (error) {
      await em.rollback().catch(() => undefined);
      throw error;
    }
  }

  async #maybeSlowCommit(em: EntityManager): Promise<void> {
    const ms = this.#takeSlowCommit() || (this.#random.chance(0.2) ? this.#random.whole(5, 60) : 0);
    if (ms > 0) await em.execute(`set local checked.slow_commit = '${ms}'`);
  }

  /** Locks the row, so that the flush can't miss it. */
  async #bump(em: EntityManager, row: string, version: number): Promise<Change[]> {
    const entity = await this.#locked(em, row);
    if (!entity) return [];
    entity.version = version;
    await em.flush();
    return [{ row, id: entity.id, version }];
  }

  #locked(em: EntityManager, row: string): Promise<{ id: number; version: number } | null> {
    return em.findOne(Row, { name: row }, { lockMode: LockMode.PESSIMISTIC_WRITE });
  }
}
