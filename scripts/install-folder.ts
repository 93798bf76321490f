import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

type Packages = Record<string, { version?: string; optional?: boolean }>;

const packagesOf = (path: string): Packages =>
  (JSON.parse(readFileSync(path, 'utf8')) as { packages: Packages }).packages;

/**
 * Installs what a folder with a `package.json` of its own needs, from its lock file, if it isn't there already. No package
 * there needs its install script.
 *
 * @throws when npm fails
 */
export function installFolder(folder: string): void {
  if (isInstalled(folder)) return;
  const args = ['ci', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status, error } = spawnSync('npm', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (error) throw error;
  if (status !== 0) throw new Error(`npm ${args.join(' ')} ended with ${status}`);
}

/** npm keeps a copy of the lock file of what it installed. */
function isInstalled(folder: string): boolean {
  const installed = join(folder, 'node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const there = packagesOf(installed);
  return Object.entries(packagesOf(join(folder, 'package-lock.json'))).every(
    ([path, wanted]) => path === '' || 'optional' in wanted || there[path]?.version === wanted.version,
  );
}
