import { defineEntity, EntitySchema, p, type EntityName } from '@mikro-orm/core';
import { cacheRegion, CachedRepo, PlusRepo, withPlusRepo, withRepo } from '../../src/index.js';
import { checkDeclaration } from './declaration-scenario.js';
import * as es from './decorated-entities.js';

const DefinedTenant = cacheRegion(
  withPlusRepo(
    defineEntity({
      name: 'Tenant',
      properties: {
        id: p.integer().primary(),
        slug: p.string().unique(),
        secret: p.string().nullable(),
        members: () => p.oneToMany(DefinedMember).mappedBy('tenant'),
      },
    }),
  ),
  { ttl: 60_000, exclude: ['secret'] },
);
const DefinedMember: EntityName<es.Member> = withRepo(
  defineEntity({
    name: 'Member',
    uniques: [{ properties: ['tenant', 'email'] }],
    properties: {
      id: p.integer().primary(),
      tenant: () => p.manyToOne(DefinedTenant),
      email: p.string(),
      createdAt: p.datetime().onCreate(() => new Date()),
    },
  }),
  CachedRepo as never,
) as never;

const SchemaTenant = cacheRegion(
  new EntitySchema<es.Tenant>({
    name: 'Tenant',
    repository: () => PlusRepo,
    properties: {
      id: { type: 'integer', primary: true },
      slug: { type: 'string', unique: true },
      secret: { type: 'string', nullable: true },
      members: { kind: '1:m', entity: () => SchemaMember, mappedBy: 'tenant' },
    },
  }),
  { ttl: 60_000, exclude: ['secret'] },
);
const SchemaMember: EntitySchema<es.Member> = new EntitySchema<es.Member>({
  name: 'Member',
  repository: () => CachedRepo,
  uniques: [{ properties: ['tenant', 'email'] }],
  properties: {
    id: { type: 'integer', primary: true },
    tenant: { kind: 'm:1', entity: () => SchemaTenant },
    email: { type: 'string' },
    createdAt: { type: 'datetime', onCreate: () => new Date() },
  },
});

test.each<[string, EntityName<es.Tenant>, EntityName<es.Member>]>([
  ['ES decorators', es.Tenant, es.Member],
  ['defineEntity', DefinedTenant as never, DefinedMember],
  ['EntitySchema', SchemaTenant, SchemaMember],
])('entities declared with %s have their repository, cache region and relations', async (_, tenant, member) => {
  await expect(checkDeclaration(tenant as never, member as never)).resolves.toBeUndefined();
});
