/**
 * `npm run docs`, `npm run docs:dev`, `npm run docs:check`: installs what the site needs into `docs/node_modules`, writes the
 * API reference from the doc comments, and builds, serves or checks the site.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { installFolder } from '../scripts/install-folder.js';

const folder = fileURLToPath(new URL('.', import.meta.url));

/** A tool of the library's own. */
const ofRoot = (name: string): string => `../../../node_modules/.bin/${name}`;

const commands: Record<string, readonly (readonly string[])[]> = {
  build: [['typedoc'], ['vitepress', 'build']],
  dev: [['typedoc'], ['vitepress', 'dev']],
  check: [
    ['tsc', '-p', '.'],
    [ofRoot('oxlint'), '-c', '../.oxlintrc.json', '--type-aware', '--deny-warnings', '.'],
    ['typedoc'],
    ['vitepress', 'build'],
    [ofRoot('tsx'), 'check.ts'],
  ],
};

const steps = commands[process.argv[2] ?? 'build'];
if (!steps) throw new Error(`There is no command '${process.argv[2]}': known are ${Object.keys(commands).join(', ')}.`);
installFolder(folder);
// pages of things that are gone would stay
rmSync(`${folder}api`, { recursive: true, force: true });
for (const [command, ...args] of steps) {
  process.stderr.write(`docs: ${command!.replace(/^.*\//, '')} ${args.join(' ')}\n`);
  const { status, error } = spawnSync(`${folder}node_modules/.bin/${command}`, args, { cwd: folder, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}
