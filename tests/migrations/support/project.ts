import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../../..');

/** A folder of an application: its entities, its configuration, and MikroORM's command line to use on them. */
export interface Project extends AsyncDisposable {
  /** Writes the file with the entities. */
  entities(source: string): Promise<void>;
  /** Runs `npx mikro-orm …` in the folder. */
  mikroOrm(...args: string[]): Promise<string>;
  /** The migrations there are, by name. */
  migrations(): Promise<{ name: string; code: string }[]>;
  /** Has the newest migration install version 1 of the triggers of a table `tag`, as if it had been made long ago. */
  age(): Promise<void>;
}

export async function createProject(url: string, { snapshot }: { snapshot: boolean }): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'plus-migrations-'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  const write = (file: string, text: string): Promise<void> => writeFile(join(folder, file), text);
  await write('package.json', JSON.stringify({ type: 'module', dependencies: { '@mikro-orm/cli': '*' } }));
  await write('tsconfig.json', JSON.stringify({ compilerOptions: { module: 'nodenext', target: 'es2024' } }));
  await write(
    'mikro-orm.config.ts',
    `import { Migrator } from '@mikro-orm/migrations';
     import { defineConfig } from '@mikro-orm/postgresql';
     import { withChangeLog } from '${root}/src/migrations.js';
     import { entities } from './entities.js';
     export default withChangeLog(defineConfig({
       entities, clientUrl: '${url}', extensions: [Migrator],
       migrations: { path: 'migrations', snapshot: ${snapshot}, fileName: (time) => 'Migration' + time + String(process.hrtime.bigint()) },
     }));`,
  );
  const migrations = async (): Promise<{ name: string; code: string }[]> => {
    const files = await readdir(join(folder, 'migrations')).catch(() => []);
    const names = files.filter((file) => file.endsWith('.ts')).toSorted();
    return Promise.all(
      names.map(async (name) => ({ name, code: await readFile(join(folder, 'migrations', name), 'utf8') })),
    );
  };
  return {
    entities: (source) =>
      write(
        'entities.ts',
        `import { defineEntity, p } from '@mikro-orm/postgresql';
         import { cacheRegion, CachedRepo, withRepo } from '${root}/src/index.js';
         ${source}`,
      ),
    async mikroOrm(...args) {
      const path = `${join(root, 'node_modules/.bin')}:${process.env.PATH}`;
      const env = { ...process.env, PATH: path, NO_COLOR: '1', MIKRO_ORM_CLI_CONFIG: './mikro-orm.config.ts' };
      const { stdout } = await run(join(root, 'node_modules/.bin/mikro-orm'), args, { cwd: folder, env });
      return stdout;
    },
    migrations,
    async age() {
      const { name, code } = (await migrations()).at(-1)!;
      const statements = await version1();
      const calls = statements.map((statement) => `this.addSql(${JSON.stringify(statement)});\n`).join('');
      const tables = code.replaceAll(/this\.addSql\(`[^`]*plus_v3[^`]*`\);/g, '');
      await write(
        join('migrations', name),
        tables.replace(/(?=\}\s+override down)/, () => calls),
      );
      for (const file of await readdir(join(folder, 'migrations'))) {
        if (!file.endsWith('.json')) continue;
        const text = await readFile(join(folder, 'migrations', file), 'utf8');
        const aged: unknown = JSON.parse(text, (_, value: unknown) => agedTrigger(value, statements));
        await write(join('migrations', file), JSON.stringify(aged));
      }
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

async function version1(): Promise<string[]> {
  const sql = await readFile(join(import.meta.dirname, 'triggers-v1.sql'), 'utf8');
  return sql
    .trim()
    .split(/;(?:\n(?=create|alter)|$)/)
    .filter(Boolean);
}

function agedTrigger(value: unknown, statements: readonly string[]): unknown {
  if (typeof value !== 'object' || value === null || !('expression' in value) || !('name' in value)) return value;
  const name = String(value.name).replace('plus_v3', 'plus_v1');
  return { ...value, name, expression: statements.filter((statement) => statement.includes(name)).join(';\n') };
}
