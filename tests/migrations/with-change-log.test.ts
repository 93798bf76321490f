import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defineEntity, EntityRepository, EntitySchema, p, type MetadataStorage } from '@mikro-orm/core';
import { Migration, Migrator } from '@mikro-orm/migrations';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import { cacheRegion } from '../../src/config/cache-region.js';
import { changeLogUp, triggersUp, withChangeLog } from '../../src/migrations.js';
import { CachedRepo, PlusRepo } from '../../src/repositories/ready-made.js';
import { withRepo } from '../../src/repositories/with-repo.js';
import { createDatabase, rawClient } from '../harness/servers.js';
import { takeLog } from './support/log.js';

const triggers = ['plus_v3_delete', 'plus_v3_truncate', 'plus_v3_update'];

const tagProperties = { id: p.integer().primary(), name: p.string().unique(), n: p.integer().default(0) };
const cachedTag = () => withRepo(defineEntity({ name: 'Tag', properties: tagProperties }), CachedRepo);
const plainTag = () => defineEntity({ name: 'Tag', properties: tagProperties });

const open: MikroORM[] = [];
afterEach(async () => {
  for (const orm of open.splice(0)) await orm.close();
});

async function connect(url: string, config: Partial<Options>, wrap = true): Promise<MikroORM> {
  const options = { extensions: [Migrator], logger: () => undefined, ...config, clientUrl: url } as Options;
  const orm = await MikroORM.init(wrap ? withChangeLog(options) : options);
  open.push(orm);
  return orm;
}

async function created(config: Partial<Options>): Promise<{ orm: MikroORM; url: string }> {
  const url = await createDatabase('schema');
  const orm = await connect(url, config);
  await orm.schema.create();
  return { orm, url };
}

async function query<T = Record<string, unknown>>(url: string, sql: string): Promise<T[]> {
  const client = await rawClient(url);
  try {
    return (await client.query(sql)).rows as T[];
  } finally {
    await client.end();
  }
}

const logOf = async (url: string): Promise<unknown[]> => {
  const client = await rawClient(url);
  try {
    return await takeLog(client);
  } finally {
    await client.end();
  }
};

const watched = (url: string): Promise<{ table: string; name: string }[]> =>
  query(
    url,
    `select n.nspname || '.' || c.relname as table, g.tgname as name from pg_trigger g join pg_class c on c.oid = g.tgrelid
     join pg_namespace n on n.oid = c.relnamespace where not g.tgisinternal order by 1, 2`,
  );

const functions = async (url: string): Promise<unknown[]> =>
  (await query(url, `select proname from pg_proc where proname like '%plus\\_v%' order by 1`)).map(
    (row) => row.proname,
  );

const diff = (orm: MikroORM): Promise<string> => orm.schema.getUpdateSchemaSQL();

describe('the schema generator', () => {
  test('creates the log and the triggers, and finds nothing to do afterwards', async () => {
    const { orm, url } = await created({ entities: [cachedTag()] });
    expect(await watched(url)).toEqual(triggers.map((name) => ({ table: 'public.tag', name })));
    expect(await diff(orm)).toBe('');
    await query(url, `insert into tag (name) values ('a')`);
    await query(url, `update tag set n = 1`);
    await query(url, `delete from tag`);
    await query(url, `truncate tag`);
    expect(await logOf(url)).toEqual([
      ['public.tag', [{ id: 1 }]],
      ['public.tag', [{ id: 1 }]],
      ['public.tag', 'any'],
    ]);
  });

  test('takes just the triggers of one table away when it is cached no more, and puts them back', async () => {
    const other = () => withRepo(defineEntity({ name: 'Other', properties: tagProperties }), PlusRepo);
    const { url } = await created({ entities: [cachedTag(), other()] });
    const without = await connect(url, { entities: [plainTag(), other()] });
    const sql = await diff(without);
    expect(sql.match(/drop \w+ if exists "\w+"/g)).toEqual(
      triggers.flatMap((name) => [`drop trigger if exists "${name}"`, `drop function if exists "tag_${name}_fn"`]),
    );
    expect(sql).not.toContain('other');
    await without.schema.update();
    expect(await watched(url)).toEqual(triggers.map((name) => ({ table: 'public.other', name })));
    expect(await functions(url)).toEqual(triggers.map((name) => `other_${name}_fn`));
    expect(await diff(without)).toBe('');

    const again = await connect(url, { entities: [cachedTag(), other()] });
    await again.schema.update();
    expect(await watched(url)).toHaveLength(6);
    expect(await diff(again)).toBe('');
  });

  test('changes nothing else about the database', async () => {
    const { url } = await created({ entities: [cachedTag()] });
    const plain = await connect(url, { entities: [cachedTag()] }, false);
    const names = (await diff(plain)).match(/"[^"]+"/g)!.map((name) => name.slice(1, -1));
    expect(new Set(names)).toEqual(
      new Set(['tag', 'plus_change_log', ...triggers, ...triggers.map((name) => `tag_${name}_fn`)]),
    );
  });

  test('puts back a trigger that somebody dropped, also the one for TRUNCATE', async () => {
    const { orm, url } = await created({ entities: [cachedTag()] });
    for (const name of triggers) await query(url, `drop trigger ${name} on tag`);
    await orm.schema.update();
    expect(await watched(url)).toHaveLength(3);
    expect(await diff(orm)).toBe('');
  });

  test.each([1, 2])('replaces what version %i of the triggers has installed', async (version) => {
    const { url } = await created({ entities: [plainTag()] });
    await query(url, await readFile(join(import.meta.dirname, `support/triggers-v${version}.sql`), 'utf8'));
    await query(url, `insert into tag (name) values ('a'); update tag set n = 1`);
    const orm = await connect(url, { entities: [cachedTag()] });
    await orm.schema.update();
    expect((await watched(url)).map(({ name }) => name)).toEqual(triggers);
    expect(await functions(url)).toEqual(triggers.map((name) => `tag_${name}_fn`));
    await query(url, `update tag set n = 2; delete from tag; truncate tag`);
    expect(await logOf(url)).toEqual([
      ['public.tag', [{ id: 1 }]],
      ['public.tag', [{ id: 1 }]],
      ['public.tag', [{ id: 1 }]],
      ['public.tag', 'any'],
    ]);
    expect(await diff(orm)).toBe('');
  });

  test('agrees with a hand-written migration', async () => {
    const url = await createDatabase('manual');
    await query(url, `create table tag (id serial primary key, name varchar(255) not null, n int not null default 0)`);
    await query(url, `alter table tag add constraint tag_name_unique unique (name)`);
    for (const sql of [...changeLogUp(), ...triggersUp({ table: 'tag', primaryKey: ['id'] })]) await query(url, sql);
    expect(await diff(await connect(url, { entities: [cachedTag()] }))).toBe('');
  });

  test('drops everything with the tables', async () => {
    const { orm, url } = await created({ entities: [cachedTag()] });
    await orm.schema.drop();
    expect(await query(url, `select from pg_class where relnamespace = 'public'::regnamespace`)).toEqual([]);
  });
});

describe('the tables that are watched', () => {
  test('have a cached repository or a region, a primary key that can name an entry, and rows of their own', async () => {
    const id = p.integer().primary();
    class Own extends EntityRepository<object> {}
    const animal = () =>
      new EntitySchema<{ id: number; kind: string }>({
        name: 'Animal',
        discriminatorColumn: 'kind',
        discriminatorValue: 'animal',
        properties: { id: { type: 'integer', primary: true }, kind: { type: 'string' } },
      });
    const root = animal();
    const dog = new EntitySchema<{ id: number; kind: string; bark?: string }, { id: number; kind: string }>({
      name: 'Dog',
      extends: root as never,
      discriminatorValue: 'dog',
      properties: { bark: { type: 'string', nullable: true } },
      repository: () => CachedRepo,
    });
    const label = defineEntity({ name: 'Label', properties: { id } });
    const { url, orm } = await created({
      entities: [
        withRepo(defineEntity({ name: 'Cached', properties: { id, labels: () => p.manyToMany(label) } }), PlusRepo),
        label,
        cacheRegion(defineEntity({ name: 'Region', properties: { id } }), { ttl: 1_000 }),
        root,
        dog,
        withRepo(defineEntity({ name: 'Money', properties: { id: p.decimal().primary() } }), PlusRepo),
        defineEntity({ name: 'Custom', properties: { id }, repository: () => Own as never }),
      ],
    });
    const tables = new Set((await watched(url)).map(({ table }) => table));
    expect([...tables]).toEqual(['public.animal', 'public.cached', 'public.region']);
    expect(await watched(url)).toHaveLength(9);
    expect(await diff(orm)).toBe('');
  });

  test('are all tables but those of relations and the log, with a cached repository for all entities', async () => {
    const label = defineEntity({ name: 'Label', properties: { id: p.integer().primary() } });
    const tag = defineEntity({ name: 'Tag', properties: { ...tagProperties, labels: () => p.manyToMany(label) } });
    const { url } = await created({ entities: [tag, label], entityRepository: PlusRepo });
    expect(new Set((await watched(url)).map(({ table }) => table))).toEqual(new Set(['public.label', 'public.tag']));
  });

  test('composite and foreign primary keys are logged by their columns', async () => {
    const tag = cachedTag();
    const post = withRepo(
      defineEntity({
        name: 'Post',
        properties: {
          tag: () => p.manyToOne(tag).primary().deleteRule('cascade'),
          no: p.bigint().primary().fieldName('No'),
          text: p.string().nullable(),
        },
      }),
      CachedRepo,
    );
    const { url } = await created({ entities: [tag, post] });
    await query(url, `insert into tag (name) values ('a')`);
    await query(url, `insert into post (tag_id, "No") values (1, 5), (1, 6)`);
    await query(url, `delete from tag`);
    expect(await logOf(url)).toEqual(
      expect.arrayContaining([
        ['public.tag', [{ id: 1 }]],
        [
          'public.post',
          [
            { tag_id: 1, No: 5 },
            { tag_id: 1, No: 6 },
          ],
        ],
      ]),
    );
  });
});

describe('writes through MikroORM are logged too', () => {
  test('flush, nativeUpdate, nativeDelete, query builder, upsert', async () => {
    const Tag = cachedTag();
    // without the subscriber: what is looked at here is the table alone
    const { orm, url } = await created({ entities: [Tag] });
    const em = orm.em.fork();
    await em.insertMany(
      Tag,
      ['a', 'b', 'c'].map((name) => ({ name, n: 0 })),
    );
    const a = await em.findOneOrFail(Tag, { name: 'a' });
    a.n = 1;
    await em.flush();
    await em.nativeUpdate(Tag, { id: { $gt: 2 } }, { n: 2 });
    await em.createQueryBuilder(Tag).update({ n: 3 }).where({ id: 2 }).execute();
    await em.upsert(Tag, { name: 'c', n: 4 });
    await em.nativeDelete(Tag, { id: 3 });
    await em.createQueryBuilder(Tag).truncate().execute();
    expect(await logOf(url)).toEqual([
      ['public.tag', [{ id: 1 }]],
      ['public.tag', [{ id: 3 }]],
      ['public.tag', [{ id: 2 }]],
      ['public.tag', [{ id: 3 }]],
      ['public.tag', [{ id: 3 }]],
      ['public.tag', 'any'],
    ]);
  });
});

describe('schemas', () => {
  test('of the entity, of the ORM, and of the log', async () => {
    const url = await createDatabase('schemas');
    const config = {
      entities: [
        withRepo(defineEntity({ name: 'Main', properties: tagProperties }), CachedRepo),
        withRepo(defineEntity({ name: 'Side', schema: 'Side s', properties: tagProperties }), CachedRepo),
      ],
      schema: 'app',
      clientUrl: url,
    };
    const orm = await MikroORM.init(withChangeLog(config, { schema: 'ops' }));
    open.push(orm);
    await orm.schema.create();
    expect(await diff(orm)).toBe('');
    await query(url, `insert into app.main (name) values ('a'); insert into "Side s".side (name) values ('a')`);
    await query(url, `update app.main set n = 1; update "Side s".side set n = 1; truncate app.main`);
    const client = await rawClient(url);
    expect(await takeLog(client, 'ops')).toEqual([
      ['app.main', [{ id: 1 }]],
      ['Side s.side', [{ id: 1 }]],
      ['app.main', 'any'],
    ]);
    await client.end();
  });

  test('one per tenant: each gets its triggers with its tables, and its name is logged', async () => {
    const item = () =>
      withRepo(
        defineEntity({ name: 'Item', tableName: `it'em %`, schema: '*', properties: tagProperties }),
        CachedRepo,
      );
    const { orm, url } = await created({ entities: [item()] });
    expect(await watched(url)).toEqual([]);
    for (const schema of ['tenant_a', 'Tenant B']) {
      await orm.schema.update({ schema, dropTables: false });
      expect(await orm.schema.getUpdateSchemaSQL({ schema, dropTables: false })).toBe('');
    }
    await query(
      url,
      `insert into tenant_a."it'em %" (name) values ('a'); insert into "Tenant B"."it'em %" (name) values ('a')`,
    );
    await query(
      url,
      `update tenant_a."it'em %" set n = 1; delete from "Tenant B"."it'em %"; truncate tenant_a."it'em %"`,
    );
    expect(await logOf(url)).toEqual([
      [`tenant_a.it'em %`, [{ id: 1 }]],
      [`Tenant B.it'em %`, [{ id: 1 }]],
      [`tenant_a.it'em %`, 'any'],
    ]);
    const plain = await connect(url, {
      entities: [defineEntity({ name: 'Item', tableName: `it'em %`, schema: '*', properties: tagProperties })],
    });
    await plain.schema.update({ schema: 'tenant_a', dropTables: false });
    expect(new Set((await watched(url)).map(({ table }) => table))).toEqual(new Set([`Tenant B.it'em %`]));
  });

  test('one per tenant, in a migration that runs for one of them: the others are left alone', async () => {
    const item = withRepo(defineEntity({ name: 'Item', schema: '*', properties: tagProperties }), CachedRepo);
    const { orm, url } = await created({ entities: [item] });
    const { up } = await orm.schema.getUpdateSchemaMigrationSQL({ wrap: false, includeWildcardSchema: true });
    class Tenants extends Migration {
      override up(): void {
        this.addSql(up);
      }
    }
    const migrations = {
      migrationsList: [{ name: 'Tenants', class: Tenants }],
      includeWildcardSchema: true,
      snapshot: false,
    };
    const migrating = await connect(url, { entities: [item], migrations });
    await query(url, `create schema t1; create schema t2; create table t2.item (id serial primary key, n int)`);
    await migrating.migrator.up({ schema: 't1' });
    expect(await watched(url)).toEqual(triggers.map((name) => ({ table: 't1.item', name })));
    await query(url, `insert into t1.item (name) values ('a'); update t1.item set n = 1`);
    expect(await logOf(url)).toEqual([['t1.item', [{ id: 1 }]]]);
  });
});

describe('withChangeLog()', () => {
  test("doesn't change what it is given, and runs the hooks of the application first", async () => {
    const seen: string[] = [];
    const config = Object.freeze({
      entities: Object.freeze([plainTag()]) as never as [],
      discovery: Object.freeze({
        onMetadata: () => void seen.push('metadata'),
        afterDiscovered: async (storage: MetadataStorage) => {
          await Promise.resolve();
          seen.push('discovered');
          // a repository that only the hook gives it
          for (const meta of storage) if (meta.className === 'Tag') meta.repository = () => PlusRepo;
        },
      }),
    });
    const { url } = await created(config as never);
    expect(seen).toContain('metadata');
    expect(seen.at(-1)).toBe('discovered');
    expect(config.entities).toHaveLength(1);
    expect(await watched(url)).toHaveLength(3);
  });

  test('works with a synchronous start, and with entities that another ORM has discovered', async () => {
    const Tag = cachedTag();
    const url = await createDatabase('sync');
    for (const schema of ['one', 'two']) {
      const orm = new MikroORM(withChangeLog({ entities: [Tag], clientUrl: url }, { schema }));
      open.push(orm);
      const { triggers: defined } = orm.getMetadata().get(Tag);
      expect(new Set(defined.map(({ name }) => name))).toEqual(new Set(triggers));
      expect(defined).toHaveLength(triggers.length);
      expect(defined[0]!.expression).toContain(`"${schema}"."plus_change_log"`);
    }
  });

  test('keeps folders of entities, compiled ones and sources', () => {
    const config = withChangeLog({ entities: ['dist/entities'], entitiesTs: ['src/entities'] });
    expect(config.entities).toEqual(['dist/entities', expect.objectContaining({ meta: expect.anything() })]);
    expect(config.entitiesTs).toEqual(['src/entities', expect.objectContaining({ meta: expect.anything() })]);
  });
});
