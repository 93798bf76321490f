import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { testDatabaseUrl, testRedisUrl } from '../harness/servers.js';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');

async function npx(command: string, args: string[], env: Record<string, string>): Promise<string> {
  const { DATABASE_URL: _, REDIS_URL: __, ...rest } = process.env;
  const path = `${join(root, 'node_modules/.bin')}:${process.env.PATH}`;
  const options = { cwd: root, env: { ...rest, ...env, PATH: path, NO_COLOR: '1' } };
  const { stdout } = await run(join(root, 'node_modules/.bin', command), args, options);
  return stdout;
}

const demo = (env: Record<string, string>): Promise<string> => npx('tsx', ['examples/quickstart/demo.ts'], env);
const lastLine = (output: string): string | undefined => output.trim().split('\n').at(-1);

test('the demo runs without any server', async () => {
  const output = await demo({});
  expect(lastLine(output)).toBe('All 13 steps did what they should.');
  for (const answer of ['identity map', 'store', 'database, created']) {
    expect(output).toContain(`answered by: ${answer}`);
  }
});

test('the demo runs on a real PostgreSQL and Redis, more than once, and its migrations match its entities', async () => {
  const env = { DATABASE_URL: await testDatabaseUrl(), REDIS_URL: testRedisUrl() };
  expect(lastLine(await demo(env))).toBe('All 13 steps did what they should.');
  expect(lastLine(await demo(env))).toBe('All 13 steps did what they should.');
  expect(await npx('mikro-orm', ['migration:check'], env)).toContain('No changes required');
});
