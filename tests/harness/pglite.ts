import { PGlite } from '@electric-sql/pglite';
import { PgliteDriver } from '@mikro-orm/pglite';
import { createPostgreSqlTypeParsers, type Options } from '@mikro-orm/postgresql';
import array from 'postgres-array';

const byUrl = new Map<string, PGlite>();
/** Starting one takes seconds, so a test file uses them again. */
const free: string[] = [];

/** Ends every PGlite of this test file, after its ORMs. */
export async function closePglites(): Promise<void> {
  for (const instance of byUrl.values()) await instance.close();
  byUrl.clear();
  free.length = 0;
}

/** An empty PostgreSQL in this process. It has one connection: what waits for another transaction waits for ever. */
export async function takePglite(): Promise<{ url: string; drop: () => Promise<void> }> {
  const url = free.pop() ?? (await start());
  const drop = async (): Promise<void> => {
    await empty(byUrl.get(url)!);
    free.push(url);
  };
  return { url, drop };
}

/** How an ORM reaches the PGlite of a URL made by {@link takePglite}; `undefined` for other URLs. */
export function pgliteOptions(url: string): Partial<Options> | undefined {
  const pglite = byUrl.get(url);
  if (!pglite) return undefined;
  // the same driver as far as the types of a test know
  return {
    driver: PgliteDriver as unknown as NonNullable<Options['driver']>,
    dbName: 'postgres',
    driverOptions: { pglite },
  };
}

async function start(): Promise<string> {
  const url = `pglite://${byUrl.size}`;
  // as MikroORM makes one: rows must arrive as `pg` gives them
  const parsers = createPostgreSqlTypeParsers((text) => array.parse(text));
  byUrl.set(url, await PGlite.create({ dataDir: 'memory://', parsers }));
  return url;
}

async function empty(pglite: PGlite): Promise<void> {
  const { rows } = await pglite.query<{ name: string }>(
    `select quote_ident(nspname) as name from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'`,
  );
  for (const { name } of rows) await pglite.exec(`drop schema ${name} cascade`);
  await pglite.exec('create schema public');
}
