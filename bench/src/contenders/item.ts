import { defineEntity, MikroORM, p, type EntityManager, type Options } from '@mikro-orm/postgresql';
import type { Environment } from './contender.js';

/** The properties of the entity that all contenders on MikroORM share. */
export const itemProperties = () => ({
  id: p.integer().primary(),
  name: p.string().unique(),
  weight: p.integer().nullable(),
  note: p.text().nullable(),
  active: p.boolean().default(true),
  createdAt: p.datetime().defaultRaw('now()'),
});

/** A plain entity, without anything of the library. */
export const Item = defineEntity({ name: 'Item', tableName: 'item', properties: itemProperties() });

/** An ORM as an application sets it up. */
export async function openOrm({ databaseUrl, pool: max }: Environment, options: Partial<Options>): Promise<MikroORM> {
  const orm = await MikroORM.init({ entities: [Item], clientUrl: databaseUrl, pool: { min: 0, max }, ...options });
  await orm.connect();
  return orm;
}

/** A request's own EntityManager. */
export type Request = EntityManager;
