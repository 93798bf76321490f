import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { testRun } from './servers.js';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');
const modules = join(root, 'node_modules');

/** An application in an empty folder, with the packed library and its peers in `node_modules`. */
export interface PackedApp extends AsyncDisposable {
  folder: string;
  /** Writes a file of the application. */
  write: (name: string, text: string) => Promise<void>;
  /** Type-checks files of the application; returns what the compiler complains about. */
  compile: (files: string[], options?: object) => Promise<string>;
  /** Compiles a folder of the application by its own tsconfig.json; returns what the compiler complains about. */
  build: (name: string) => Promise<string>;
  /** Runs a TypeScript file of the application with Node.js; returns what it prints. */
  node: (file: string, env: Record<string, string>) => Promise<string>;
}

/** Builds and packs the library once per test run, and unpacks it into a new application. */
export async function createPackedApp(): Promise<PackedApp> {
  const tarball = await packedLibrary();
  const folder = await mkdtemp(join(tmpdir(), 'plus-app-'));
  const library = join(folder, 'node_modules/mikro-orm-plus');
  await mkdir(join(folder, 'node_modules'));
  for (const name of await readdir(modules)) {
    if (!name.startsWith('.')) {
      await symlink(join(modules, name), join(folder, 'node_modules', name));
    }
  }
  await mkdir(library);
  await run('tar', ['-xzf', tarball, '--strip-components=1', '-C', library]);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));

  return {
    folder,
    write: (name, text) => writeFile(join(folder, name), text),
    compile: async (files, options = {}) => {
      const compilerOptions = {
        target: 'es2024',
        lib: ['es2024', 'esnext.decorators', 'esnext.disposable'],
        module: 'nodenext',
        strict: true,
        skipLibCheck: true,
        noEmit: true,
        types: ['node'],
        ...options,
      };
      const project = join(folder, `tsconfig.${files.join('-')}.json`);
      await writeFile(project, JSON.stringify({ compilerOptions, files }));
      const result = await run(join(modules, '.bin/tsc'), ['-p', project]).catch((error: { stdout: string }) => error);
      return result.stdout;
    },
    build: async (name) => {
      const result = await run(join(modules, '.bin/tsc'), ['-p', join(folder, name)]).catch(
        (error: { stdout: string }) => error,
      );
      return result.stdout;
    },
    node: async (file, env) => {
      const { stdout } = await run(join(modules, '.bin/tsx'), [file], { cwd: folder, env: { ...process.env, ...env } });
      return stdout;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** The tarball of this test run: made by the first test file that needs it, while the others wait. */
async function packedLibrary(): Promise<string> {
  const folder = join(testRun().folder, 'packed');
  const result = join(folder, 'result.json');
  try {
    await mkdir(folder);
  } catch {
    while (!existsSync(result)) await sleep(100);
  }
  if (!existsSync(result)) {
    const packed = await pack(folder).catch((error: Error) => ({ error: error.message }));
    // by a rename, so that nobody reads a half of it
    await writeFile(`${result}.new`, JSON.stringify(packed));
    await rename(`${result}.new`, result);
  }
  const packed = JSON.parse(await readFile(result, 'utf8')) as { tarball?: string; error?: string };
  if (packed.tarball === undefined) throw new Error(`The library could not be packed: ${packed.error}`);
  return packed.tarball;
}

async function pack(folder: string): Promise<{ tarball: string }> {
  const source = join(folder, 'package');
  await mkdir(source);
  await cp(join(root, 'package.json'), join(source, 'package.json'));
  await run(join(modules, '.bin/tsc'), ['-p', join(root, 'tsconfig.build.json'), '--outDir', join(source, 'dist')]);
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: source,
  });
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  return { tarball: join(folder, filename) };
}
