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
  /** Replaces text in the newest migration. */
  edit(change: (code: string) => string): Promise<void>;
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
    async edit(change) {
      const { name, code } = (await migrations()).at(-1)!;
      await write(join('migrations', name), change(code));
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
