import pg from 'pg';
import { DEFAULTS, type Contender, type Environment } from './contender.js';

const COLUMNS = 'id, name, weight, note, active, created_at';
const SELECT = { name: 'item_select', text: `select ${COLUMNS} from item where name = $1` };
const INSERT = {
  name: 'item_insert',
  text: `insert into item (name, weight, note, active) values ($1, $2, $3, $4) on conflict (name) do nothing returning ${COLUMNS}`,
};
const SELECT_MANY = { name: 'item_select_many', text: `select ${COLUMNS} from item where name = any($1::text[])` };
const INSERT_MANY = {
  name: 'item_insert_many',
  text:
    `insert into item (name, weight, note, active) select name, $2, $3, $4 from unnest($1::text[]) as name ` +
    `on conflict (name) do nothing returning ${COLUMNS}`,
};

interface Row {
  readonly name: string;
}

/**
 * What the work costs without any library: prepared statements, plain rows. Select, insert unless it is there, and
 * select again when another caller was faster.
 */
export async function open({ databaseUrl, pool: max }: Environment): Promise<Contender> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max });
  const one = async (query: { name: string; text: string }, values: unknown[]): Promise<Row | undefined> =>
    (await pool.query<Row>({ ...query, values })).rows[0];
  return {
    getOrCreate: async (name) =>
      (await one(SELECT, [name])) ??
      (await one(INSERT, [name, DEFAULTS.weight, DEFAULTS.note, DEFAULTS.active])) ??
      one(SELECT, [name]),
    getOrCreateMany: async (names) => {
      const { rows } = await pool.query<Row>({ ...SELECT_MANY, values: [names] });
      const known = new Set(rows.map(({ name }) => name));
      const missing = names.filter((name) => !known.has(name));
      const values = [missing, DEFAULTS.weight, DEFAULTS.note, DEFAULTS.active];
      const created = await pool.query<Row>({ ...INSERT_MANY, values });
      return [...rows, ...created.rows];
    },
    close: () => pool.end(),
  };
}
