import { DataSource, EntitySchema, In } from 'typeorm';
import { DEFAULTS, type Contender, type Environment } from './contender.js';

interface Item {
  id: number;
  name: string;
  weight: number | null;
  note: string | null;
  active: boolean;
  createdAt: Date;
}

const itemSchema = new EntitySchema<Item>({
  name: 'item',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' },
    name: { type: 'varchar', length: 255, unique: true },
    weight: { type: 'int', nullable: true },
    note: { type: 'text', nullable: true },
    active: { type: 'bool', default: true },
    createdAt: { type: 'timestamptz', name: 'created_at', default: () => 'now()' },
  },
});

/** TypeORM has no get-or-create: a find, and the insert that its query builder documents for rows that may exist. */
export async function open({ databaseUrl, pool }: Environment): Promise<Contender> {
  const source = new DataSource({ type: 'postgres', url: databaseUrl, entities: [itemSchema], poolSize: pool });
  await source.initialize();
  const repository = source.getRepository(itemSchema);
  const insert = (rows: Partial<Item>[]): Promise<unknown> =>
    repository.createQueryBuilder().insert().values(rows).orIgnore().execute();
  return {
    getOrCreate: async (name) => {
      const found = await repository.findOneBy({ name });
      if (found) return found;
      await insert([{ name, ...DEFAULTS }]);
      return repository.findOneByOrFail({ name });
    },
    getOrCreateMany: async (names) => {
      const found = await repository.findBy({ name: In(names) });
      const known = new Set(found.map(({ name }) => name));
      const missing = names.filter((name) => !known.has(name));
      if (missing.length === 0) return found;
      await insert(missing.map((name) => ({ name, ...DEFAULTS })));
      return [...found, ...(await repository.findBy({ name: In(missing) }))];
    },
    close: () => source.destroy(),
  };
}
