import type { UniqueKey } from '../../natural-keys/unique-keys.js';
import type { EntityManager } from '../../orm/context.js';
import { normalPredicates, type DatabaseIndex, type Table } from './catalog.js';

/** Why an index on a key's columns can't serve it. */
export interface KeyFault {
  readonly code: string;
  readonly message: string;
  /** The greater, the more likely it is the index that was meant. */
  readonly nearness: number;
}

/**
 * What keeps an index on the key's columns from serving it as `on conflict` needs it; `undefined` when nothing does.
 *
 * @throws when the key's predicate can't be used on the table
 */
export async function faultOf(
  em: EntityManager,
  table: Table,
  key: UniqueKey,
  index: DatabaseIndex,
): Promise<KeyFault | undefined> {
  if (!index.isUnique) return { code: 'not-unique', message: 'is not unique', nearness: 0 };
  const message = await otherPredicate(em, table, key, index);
  if (message !== undefined) return { code: 'other-predicate', message, nearness: 1 };
  if (index.nullsNotDistinct !== key.nullsNotDistinct) {
    const [has, declared] = index.nullsNotDistinct ? ['equal', 'distinct'] : ['distinct', 'equal'];
    return { code: 'other-nulls', message: `takes nulls for ${has}, declared is ${declared}`, nearness: 2 };
  }
  if (!index.isImmediate) {
    return { code: 'deferrable', message: 'is deferrable, so `on conflict` cannot use it', nearness: 3 };
  }
  if (index.isValid) return undefined;
  return {
    code: 'invalid',
    message: 'is invalid: its `create index concurrently` failed or is still running, so there may be duplicates',
    nearness: 4,
  };
}

async function otherPredicate(
  em: EntityManager,
  table: Table,
  key: UniqueKey,
  index: DatabaseIndex,
): Promise<string | undefined> {
  const given = [key.predicate, index.predicate].filter((predicate) => predicate != null);
  if (given.length === 0) return undefined;
  const normal = await normalPredicates(em, table, given);
  if (given.length === 2 && normal[0] === normal[1]) return undefined;
  return `is for ${rowsWhere(index.predicate)}, declared is ${rowsWhere(key.predicate)}`;
}

function rowsWhere(predicate: string | null | undefined): string {
  return predicate == null ? 'all rows' : `rows where ${predicate}`;
}
