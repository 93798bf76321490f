import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
  }),
  GetOrCreateRepo,
);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag] });
  rival = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate tag');
  await rival.query(`insert into tag (name) values ('a'), ('b')`);
});

async function open() {
  const em = db.orm.em.fork();
  const repository = em.getRepository(Tag);
  const [tag] = await repository.getOrCreate({ name: 'a' });
  db.statements.take();
  return { em, repository, tag };
}

describe('a managed entity', () => {
  it('counts under the key it has in the database while its rename is not flushed', async () => {
    const { em, repository, tag } = await open();
    tag.name = 'renamed';
    await expect(repository.getOrCreate({ name: 'a' })).resolves.toEqual([tag, false]);
    expect(db.statements.take()).toEqual([]);
    await em.flush();
    await expect(repository.getOrCreate({ name: 'renamed' })).resolves.toEqual([tag, false]);
    const [other, created] = await repository.getOrCreate({ name: 'a' });
    expect([other.name, created]).toEqual(['a', true]);
    expect(other).not.toBe(tag);
  });

  it('keeps its unflushed changes, and flushes them', async () => {
    const { em, repository, tag } = await open();
    tag.weight = 5;
    await repository.getOrCreate({ name: 'a' }, { weight: 9 });
    await repository.getOrCreateMany([{ name: 'b' }, { name: 'a' }]);
    expect(tag.weight).toBe(5);
    await em.flush();
    expect((await rival.query(`select weight from tag where name = 'a'`)).rows).toEqual([{ weight: 5 }]);
  });

  it('keeps them also when the database is asked by another key', async () => {
    const { repository, tag } = await open();
    tag.weight = 5;
    await expect(repository.getOrCreate({ name: 'a', weight: 0 })).resolves.toEqual([tag, false]);
    expect(tag.weight).toBe(5);
  });

  it('is forgotten by clear()', async () => {
    const { em, repository, tag } = await open();
    em.clear();
    const [again] = await repository.getOrCreate({ name: 'a' });
    expect(again).not.toBe(tag);
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('is found after a clear(), when as many others are there as before', async () => {
    const { em, repository } = await open();
    await repository.getOrCreate({ name: 'a' });
    em.clear();
    const loaded = await em.findOneOrFail(Tag, { name: 'b' });
    db.statements.take();
    await expect(repository.getOrCreate({ name: 'b' })).resolves.toEqual([loaded, false]);
    expect(db.statements.take()).toEqual([]);
  });

  it('is created anew after its removal was flushed', async () => {
    const { em, repository, tag } = await open();
    em.remove(tag);
    await em.flush();
    const [again, created] = await repository.getOrCreate({ name: 'a' });
    expect(created).toBe(true);
    expect(again).not.toBe(tag);
  });

  it('is not confused with another that took its place in a map of the same size', async () => {
    const { em, repository } = await open();
    em.clear();
    const b = await em.findOneOrFail(Tag, { name: 'b' });
    await expect(repository.getOrCreate({ name: 'b' })).resolves.toEqual([b, false]);
    const [a] = await repository.getOrCreate({ name: 'a' });
    expect(a).not.toBe(b);
  });

  it('is found without a statement by each of its keys, however it came there', async () => {
    const { em, repository, tag } = await open();
    const b = await em.findOneOrFail(Tag, { name: 'b' });
    db.statements.take();
    for (const where of [{ name: 'b' }, { name: 'b', weight: 0 }, { id: b.id }]) {
      await expect(repository.getOrCreate(where)).resolves.toEqual([b, false]);
    }
    await expect(repository.getOrCreate({ name: 'a' })).resolves.toEqual([tag, false]);
    expect(db.statements.take()).toEqual([]);
    const [c] = await repository.getOrCreate({ name: 'c' });
    db.statements.take();
    for (const where of [{ name: 'c' }, { id: c.id }, { name: 'c', weight: 0 }]) {
      await expect(repository.getOrCreate(where)).resolves.toEqual([c, false]);
    }
    expect(db.statements.take()).toEqual([]);
  });

  it('that is only a reference is loaded', async () => {
    const { tag } = await open();
    const em = db.orm.em.fork();
    const reference = em.getReference(Tag, tag.id);
    const [loaded] = await em.getRepository(Tag).getOrCreate({ id: tag.id });
    expect(loaded).toBe(reference);
    expect(loaded.name).toBe('a');
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });
});

describe('a new entity that waits for a flush', () => {
  it('is not taken for a row: the row is created now', async () => {
    const em = db.orm.em.fork();
    const pending = em.create(Tag, { name: 'new' }, { persist: false });
    const [tag, created] = await em.getRepository(Tag).getOrCreate({ name: 'new' });
    expect(created).toBe(true);
    expect(tag).not.toBe(pending);
  });
});
