import type { EntityManager } from './context.js';

/** A `pg` pool, as far as it is asked here. */
interface PoolLike {
  query(sql: string): Promise<{ rows: readonly { server_version_num: string }[] }>;
}

type Asked = { version: number | undefined };

const known = new WeakMap<object, Asked>();

/**
 * The version of the server that an EntityManager writes to, as PostgreSQL numbers it (`190000` and up for 19).
 *
 * Nobody waits for it: the first call asks beside its own work, on a connection of the pool's, and gets `undefined`, as
 * does everybody until the answer is there. Without a pool of `pg` (PGlite) it stays unknown.
 */
export function serverVersion(em: EntityManager): number | undefined {
  const connection = em.getConnection('write');
  let asked = known.get(connection);
  if (!asked) {
    known.set(connection, (asked = { version: undefined }));
    const ask = async (): Promise<void> => {
      const pool: unknown = await connection.getNativeClient();
      if (!isPool(pool)) return;
      const { rows } = await pool.query('show server_version_num');
      asked!.version = Number(rows[0]!.server_version_num);
    };
    // the next one asks again
    ask().catch(() => known.delete(connection));
  }
  return asked.version;
}

function isPool(client: unknown): client is PoolLike {
  return client !== null && typeof client === 'object' && 'totalCount' in client && 'query' in client;
}
