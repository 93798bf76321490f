import { lookupKeyText } from '../codec/primary-key.js';
import { parseLookup } from '../natural-keys/lookup.js';
import type { EntityManager } from '../orm/context.js';
import type { Meta } from '../orm/metadata.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region } from '../stores/Region.js';
import { primaryKeysOf } from './find.js';

/** Where the rows of an entity are cached, and the lookups that lead to them. */
export interface Cached {
  readonly region: Region;
  readonly hints: GuardedStore;
}

/**
 * The primary keys of the rows that a lookup may mean: what the database says, and what the cache says, since the row
 * may be gone from the database.
 *
 * @throws {LookupError} when `where` can't be used
 */
export async function keysMeant(
  em: EntityManager,
  meta: Meta,
  schema: string | undefined,
  where: unknown,
  { region, hints }: Cached,
): Promise<string[]> {
  const lookup = parseLookup(meta, where, em.getPlatform());
  const primaryKey = lookupKeyText(lookup);
  if (primaryKey !== undefined) return [primaryKey];
  const hint = { key: region.lookupKey(effectiveSchema(em, meta, schema), lookup), region: region.hintRegion };
  const [cached] = await hints.readMany([hint]);
  const keys = new Set(await primaryKeysOf(em, meta, schema, where));
  if (cached?.kind === 'hit') keys.add(cached.value);
  return [...keys];
}

/** The schema that an entity's rows are in, as keys of entries name it. */
export function effectiveSchema(em: EntityManager, meta: Meta, schema: string | undefined): string | undefined {
  return em.getDriver().getSchemaName(meta, schema === undefined ? {} : { schema });
}
