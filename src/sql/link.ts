import type { EntityManager } from '@mikro-orm/postgresql';
import { quote, type Meta, type Prop } from '../orm/metadata.js';
import { tableName, type Sql } from '../orm/statement.js';
import { driverOf } from '../orm/context.js';

/** Links an owner to an item of a many-to-many collection, unless they are linked already. */
export function linkRows(
  em: EntityManager,
  prop: Prop,
  owner: readonly unknown[],
  item: readonly unknown[],
  schema: string | undefined,
): Sql {
  const pivot = em.getMetadata().get(prop.pivotEntity) as unknown as Meta;
  const table = tableName(driverOf(em), pivot, schema);
  const columns = [...prop.joinColumns, ...prop.inverseJoinColumns].map(quote);
  const values = [...owner, ...item];
  const linked = columns.map((column) => `${column} = ?`).join(' and ');
  return {
    sql:
      `insert into ${table} (${columns.join(', ')}) select ${columns.map(() => '?').join(', ')} ` +
      `where not exists (select 1 from ${table} where ${linked}) on conflict do nothing`,
    params: [...values, ...values],
  };
}
