import { Entity, PrimaryKey, Property } from '@mikro-orm/decorators/legacy';
import { createTestOrm } from '../orm.js';

@Entity()
class Note {
  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  text!: string;
}

it(`files below "legacy" are compiled with TypeScript's old decorators`, async () => {
  await using testOrm = await createTestOrm({ entities: [Note] });
  const em = testOrm.orm.em.fork();
  em.create(Note, { text: 'a' });
  await em.flush();
  await expect(em.fork().findOneOrFail(Note, { text: 'a' })).resolves.toEqual({ id: 1, text: 'a' });
});
