import { defineEntity, p } from '@mikro-orm/core';
import { PlusRepo, PlusSubscriber, withRepo } from '../../src/index.js';
import { createTestOrm } from '../harness/orm.js';

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), email: p.string() } });
const Doc = withRepo(
  defineEntity({
    name: 'Doc',
    properties: {
      id: p.integer().primary(),
      slug: p.string().unique(),
      owner: () => p.manyToOne(Owner).eager(),
    },
  }),
  PlusRepo,
);

it('loads eager relations of created, found and cached rows, unless populate is false', async () => {
  await using db = await createTestOrm({ entities: [Owner, Doc], subscribers: [new PlusSubscriber()] });
  const em = db.orm.em.fork();
  em.create(Owner, { email: 'a@b.example' });
  await em.flush();
  const repository = () => db.orm.em.fork().getRepository(Doc);

  for (const created of [true, false]) {
    const [doc, isNew] = await repository().getOrCreate({ slug: 'a' }, { owner: 1 });
    expect([doc.owner.email, isNew]).toEqual(['a@b.example', created]);
  }
  const [bare] = await repository().getOrCreate({ slug: 'a' }, {}, { populate: false });
  expect(bare.owner.email).toBeUndefined();
});
