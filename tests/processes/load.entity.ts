import { defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo, type Statistics } from '../../src/index.js';

export const Item = withPlusRepo(
  defineEntity({
    name: 'Item',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight: p.integer().default(0),
      note: p.string().length(1_000).nullable(),
    },
  }),
);

/** A line of output of the process under load. */
export type LoadReport =
  | { readonly kind: 'sample'; readonly heapUsed: number; readonly calls: number }
  | { readonly kind: 'busy-over' }
  | { readonly kind: 'unhandled'; readonly error: string }
  | {
      readonly kind: 'closed';
      readonly calls: number;
      readonly unhandled: number;
      readonly errors: Readonly<Record<string, number>>;
      readonly statistics: Statistics;
    };
