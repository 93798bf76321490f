import { defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo } from '../../../src/index.js';

/** The entity of most scenarios: a natural key, and a value that changes. */
export const Tag = withPlusRepo(
  defineEntity({
    name: 'Tag',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
  }),
);
