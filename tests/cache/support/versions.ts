import { defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo } from '../../../src/index.js';

const common = { id: p.integer().primary(), name: p.string().unique() };

const Tag = withPlusRepo(defineEntity({ name: 'Tag', properties: { ...common, weight: p.integer().default(0) } }));

const TagWithNote = withPlusRepo(
  defineEntity({
    name: 'Tag',
    properties: { ...common, weight: p.integer().default(0), note: p.string().default('none') },
  }),
);

const TagWithDouble = withPlusRepo(
  defineEntity({ name: 'Tag', properties: { ...common, weight: p.double().default(0) } }),
);

/** Two versions of an entity, and what the migration between them does. */
export const versions = {
  'a column was added': {
    old: Tag,
    next: TagWithNote as unknown as typeof Tag,
    migration: `alter table tag add column note text not null default 'none'`,
  },
  'a type was changed': {
    old: Tag,
    next: TagWithDouble as unknown as typeof Tag,
    migration: 'alter table tag alter column weight type double precision',
  },
} as const;

export type Change = keyof typeof versions;
