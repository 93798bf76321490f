import type { Collection, EntityName } from '@mikro-orm/core';
import { type CachedRepo, type PlusRepo, PlusSubscriber } from '../../src/index.js';
import { createTestOrm } from '../harness/orm.js';

interface Tenant {
  id: number;
  slug: string;
  secret?: string | null;
  members: Collection<Member>;
}

interface Member {
  id: number;
  tenant: Tenant;
  email: string;
  createdAt: Date;
}

/** What two entities must show, however they were declared: repository, cache region with `exclude`, relations. */
export async function checkDeclaration(tenant: EntityName<object>, member: EntityName<object>): Promise<void> {
  await using db = await createTestOrm({ entities: [tenant, member] as never, subscribers: [new PlusSubscriber()] });
  const tenants = () => db.orm.em.fork().getRepository(tenant) as unknown as PlusRepo<Tenant>;

  const [created, isNew] = await tenants().getOrCreate({ slug: 'acme' }, { secret: 's3cret' });
  expect([created.secret, isNew]).toEqual(['s3cret', true]);
  db.statements.take();
  const [cached] = await tenants().getOrCreate({ slug: 'acme' });
  expect([cached.id, cached.secret, db.statements.take()]).toEqual([created.id, undefined, []]);

  const em = db.orm.em.fork();
  const owner = await (em.getRepository(tenant) as unknown as PlusRepo<Tenant>).get({ slug: 'acme' });
  const members = em.getRepository(member) as unknown as CachedRepo<Member>;
  const [item, isNewItem] = await members.related(owner.members).getOrCreate({ email: 'a@acme.example' });
  expect([item.tenant, isNewItem]).toEqual([owner, true]);
  expect(item.createdAt).toBeInstanceOf(Date);
  db.statements.take();
  await em.flush();
  expect(db.statements.take()).toEqual([]);
}
