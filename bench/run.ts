/**
 * `npm run bench`: installs what the benchmark needs, builds the library and puts it there as npm would, starts servers of
 * its own, and measures. What is measured runs in plain Node.js from compiled files.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { installFolder } from '../scripts/install-folder.js';
import { startServers } from '../tests/harness/servers.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const inBench = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** What a run may have written that the formatter cares for. */
const PAGES = ['docs/benchmarks.md', 'docs/benchmarks/*.json'];

/** Runs a command with its output on ours; returns its exit code. */
function command(file: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): number {
  const { status, error } = spawnSync(file, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error) throw error;
  return status ?? 1;
}

function step(name: string, file: string, args: readonly string[]): void {
  process.stderr.write(`bench: ${name}\n`);
  const code = command(file, args);
  if (code !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${code}`);
}

process.stderr.write('bench: installing the peers, if they are not there\n');
installFolder(inBench('.'));
step('building the library', 'npm', ['run', '--silent', 'build']);
step('compiling', 'npm', ['run', '--silent', '--prefix', 'bench', 'build']);
process.stderr.write('bench: starting PostgreSQL and Redis\n');
const servers = await startServers({ postgres: true, redis: true });
try {
  process.exitCode = command(process.execPath, [inBench('build/main.js'), ...process.argv.slice(2)], {
    ...process.env,
    BENCH_DATABASE_URL: servers.postgres!.url,
    BENCH_REDIS_URL: servers.redis!.url,
  });
} finally {
  await servers.stop();
}
command('npm', ['exec', '--', 'prettier', '--log-level=warn', '--no-error-on-unmatched-pattern', '--write', ...PAGES]);
