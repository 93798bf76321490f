import type { Client } from 'pg';
import { createDatabase, rawClient } from '../harness/servers.js';
import { takeLog } from './support/log.js';
import { createProject } from './support/project.js';

const properties = `{ id: p.integer().primary(), name: p.string(), n: p.integer().default(0) }`;
const cachedTag = `export const entities = [withRepo(defineEntity({ name: 'Tag', properties: ${properties} }), CachedRepo)];`;
const plainTag = `export const entities = [defineEntity({ name: 'Tag', properties: ${properties} })];`;

let client: Client;
afterEach(() => client.end());

// each run of the command line is a process that compiles TypeScript
const PATIENCE = 300_000;

async function schemaOf(): Promise<string[]> {
  const { rows } = await client.query(
    `select tgname as name from pg_trigger where not tgisinternal
     union all select proname from pg_proc where proname like '%plus\\_v%'
     union all select relname from pg_class where relname = 'plus_change_log' order by 1`,
  );
  return rows.map(({ name }) => name);
}

const installed = [
  'plus_change_log',
  'plus_v3_delete',
  'plus_v3_truncate',
  'plus_v3_update',
  'tag_plus_v3_delete_fn',
  'tag_plus_v3_truncate_fn',
  'tag_plus_v3_update_fn',
];

describe.each([{ snapshot: true }, { snapshot: false }])('npx mikro-orm, snapshot: $snapshot', ({ snapshot }) => {
  test(
    'migration:create writes the log and triggers, once; up installs them, down removes them',
    async () => {
      const url = await createDatabase('cli');
      client = await rawClient(url);
      await using project = await createProject(url, { snapshot });
      await project.entities(cachedTag);
      await project.mikroOrm('migration:create');
      await project.mikroOrm('migration:up');
      expect(await schemaOf()).toEqual(installed);
      await client.query(`insert into tag (name) values ('a'), ('b')`);
      await client.query(`update tag set n = 1`);
      await client.query(`truncate tag`);
      expect(await takeLog(client)).toEqual([
        ['public.tag', [{ id: 1 }, { id: 2 }]],
        ['public.tag', 'any'],
      ]);

      expect(await project.mikroOrm('migration:create')).toContain('No changes required');
      expect(await project.mikroOrm('migration:check')).toContain('No changes required');
      expect(await project.migrations()).toHaveLength(1);
      await project.mikroOrm('migration:down');
      expect(await schemaOf()).toEqual([]);
    },
    PATIENCE,
  );

  test(
    'a table that is cached no more loses its triggers, and nothing else; a rollback of that breaks no write',
    async () => {
      const url = await createDatabase('cli');
      client = await rawClient(url);
      await using project = await createProject(url, { snapshot });
      await project.entities(cachedTag);
      await project.mikroOrm('migration:create');
      await project.mikroOrm('migration:up');

      await project.entities(plainTag);
      await project.mikroOrm('migration:create');
      const { code } = (await project.migrations()).at(-1)!;
      const up = code.slice(0, code.indexOf('down()'));
      expect(up.match(/this\.addSql\(`[^`]*`/g)).toHaveLength(6);
      expect(up.match(/drop (trigger|function) if exists/g)).toHaveLength(6);
      await project.mikroOrm('migration:up');
      expect(await schemaOf()).toEqual(['plus_change_log']);

      await project.mikroOrm('migration:down');
      await client.query(`insert into tag (name) values ('a'), ('b')`);
      await client.query(`update tag set n = 1 where id = 1`);
      await client.query(`delete from tag where id = 1`);
      // MikroORM can't tell from the database how the triggers were made: without its snapshot it writes them back
      // without their transition tables
      expect(await takeLog(client)).toEqual([
        ['public.tag', snapshot ? [{ id: 1 }] : 'any'],
        ['public.tag', snapshot ? [{ id: 1 }] : 'any'],
      ]);
    },
    PATIENCE,
  );

  test(
    'migration:create replaces the triggers of version 1, and a rollback of that puts them back',
    async () => {
      const url = await createDatabase('cli');
      client = await rawClient(url);
      await using project = await createProject(url, { snapshot });
      await project.entities(cachedTag);
      await project.mikroOrm('migration:create');
      await project.age();
      await project.mikroOrm('migration:up');
      expect(await schemaOf()).toEqual(installed.map((name) => name.replace('v3', 'v1')));

      await project.mikroOrm('migration:create');
      expect(await project.migrations()).toHaveLength(2);
      await project.mikroOrm('migration:up');
      expect(await schemaOf()).toEqual(installed);
      await client.query(`insert into tag (name) values ('a'); update tag set n = 1`);
      expect(await takeLog(client)).toEqual([['public.tag', [{ id: 1 }]]]);
      expect(await project.mikroOrm('migration:create')).toContain('No changes required');

      await project.mikroOrm('migration:down');
      expect(await schemaOf()).toEqual(installed.map((name) => name.replace('v3', 'v1')));
      await client.query(`update tag set n = 2`);
      expect(await takeLog(client)).toEqual([['public.tag', snapshot ? [{ id: 1 }] : 'any']]);
    },
    PATIENCE,
  );
});
