import { eq, inArray, sql } from 'drizzle-orm';
import { drizzle as openDrizzle } from 'drizzle-orm/node-postgres';
import { boolean, integer, pgTable, serial, text, timestamp, varchar } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { DEFAULTS, type Contender, type Environment } from './contender.js';

const item = pgTable('item', {
  id: serial().primaryKey(),
  name: varchar({ length: 255 }).notNull().unique(),
  weight: integer(),
  note: text(),
  active: boolean().notNull().default(true),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
});

/** Drizzle has no get-or-create: its prepared queries, which its page on performance recommends. It maps rows, no entities. */
export async function open({ databaseUrl, pool: max }: Environment): Promise<Contender> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max });
  const db = openDrizzle({ client: pool });
  const select = db
    .select()
    .from(item)
    .where(eq(item.name, sql.placeholder('name')))
    .prepare('drizzle_select');
  const insert = db
    .insert(item)
    .values({ name: sql.placeholder('name'), ...DEFAULTS })
    .onConflictDoNothing({ target: item.name })
    .returning()
    .prepare('drizzle_insert');
  return {
    getOrCreate: async (name) =>
      (await select.execute({ name }))[0] ?? (await insert.execute({ name }))[0] ?? (await select.execute({ name }))[0],
    getOrCreateMany: async (names) => {
      const found = await db.select().from(item).where(inArray(item.name, names));
      const known = new Set(found.map(({ name }) => name));
      const missing = names.filter((name) => !known.has(name)).map((name) => ({ name, ...DEFAULTS }));
      if (missing.length === 0) return found;
      return [...found, ...(await db.insert(item).values(missing).onConflictDoNothing().returning())];
    },
    close: () => pool.end(),
  };
}
