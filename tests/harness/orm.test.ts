import { defineEntity, p } from '@mikro-orm/postgresql';
import { connectTestOrm, createTestOrm } from './orm.js';
import { rawClient } from './servers.js';

const Note = defineEntity({ name: 'Note', properties: { id: p.integer().primary(), text: p.string().unique() } });

describe('a test ORM', () => {
  it('has a database with tables, and records plain SQL', async () => {
    await using testOrm = await createTestOrm({ entities: [Note] });
    const em = testOrm.orm.em.fork();
    expect(testOrm.statements.take()).toEqual([]);

    await em.findOne(Note, { text: `it's` });
    expect(testOrm.statements.take()).toEqual([
      `select "n0".* from "note" as "n0" where "n0"."text" = 'it''s' limit 1`,
    ]);
    em.create(Note, { text: 'a' });
    await em.flush();
    expect(testOrm.statements.take()).toEqual([
      'begin',
      `insert into "note" ("text") values ('a') returning "id"`,
      'commit',
    ]);
    expect(testOrm.statements.take()).toEqual([]);
  });

  it('shares its database with a second one, and drops it in the end', async () => {
    const first = await createTestOrm({ entities: [Note] });
    const second = await connectTestOrm(first.url, { entities: [Note] });
    const em = first.orm.em.fork();
    em.create(Note, { text: 'seen by both' });
    await em.flush();
    await expect(second.orm.em.fork().count(Note)).resolves.toBe(1);
    expect(second.statements.take()).toHaveLength(1);

    await first.close();
    await expect(second.orm.isConnected()).resolves.toBe(false);
    await expect(rawClient(first.url)).rejects.toThrow('does not exist');
    await first.close();
  });
});

it('closing ends the connections of the ORM that made the database, and drops it', async () => {
  const { orm, url, close } = await createTestOrm({ entities: [Note] });
  await close();
  expect(await orm.isConnected()).toBe(false);
  await expect(rawClient(url)).rejects.toThrow('does not exist');
});
