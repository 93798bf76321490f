import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createDatabase } from '../harness/servers.js';
import { createCliProject, type CliProject, type CliResult } from './project.js';

const config = (entity: string): string => `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

export default defineConfig({
  contextName: process.env.NAME ?? 'default',
  clientUrl: process.env.DATABASE_URL,
  entities: [withPlusRepo(defineEntity({ name: '${entity}', properties: { id: p.integer().primary(), name: p.string().unique() } }))],
  subscribers: [new PlusSubscriber()],
});`;

let project: CliProject;
let env: Record<string, string>;

beforeAll(async () => {
  env = { DATABASE_URL: await createDatabase('command-line') };
  project = await createCliProject({ 'mikro-orm.config.ts': config('Default'), 'other.config.ts': config('Other') });
});
afterAll(() => project?.[Symbol.asyncDispose]());

const entityOf = ({ stdout }: CliResult): string | undefined => /there is no table "public"."(\w+)"/.exec(stdout)?.[1];

it('shows help and version', async () => {
  const help = await project.run(['--help']);
  expect(help).toMatchObject({ code: 0, stderr: '' });
  for (const command of ['doctor', 'relay', 'evict', 'stats']) {
    expect(help.stdout).toContain(`\n  ${command} `);
    const own = await project.run([command, '--help']);
    expect(own).toMatchObject({ code: 0, stderr: '' });
    expect(own.stdout).toContain(`Usage: mikro-orm-plus ${command}`);
  }
  expect(await project.run(['--version'])).toMatchObject({ code: 0, stdout: '0.1.0\n' });
  expect(await project.run([])).toMatchObject({ code: 2, stdout: help.stdout });
});

it.each<[args: string[], message: RegExp]>([
  [['docter'], /There is no command 'docter'\. Commands: doctor, relay, evict, stats, warm-up\./],
  [['doctor', '--jsn'], /Unknown option '--jsn'\. See mikro-orm-plus doctor --help/],
  [['doctor', 'Tag'], /Too many arguments\. Usage: mikro-orm-plus doctor/],
  [['doctor', '--config'], /argument missing/],
  [
    ['doctor', '--config', 'nosuch.ts'],
    /MikroORM can't be started: MikroORM config file not found in \['nosuch\.ts'\]/,
  ],
])('%j is wrong usage', async (args, message) => {
  const { code, stdout, stderr } = await project.run(args, env);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});

it('finds the configuration as MikroORM’s command line does', async () => {
  expect(entityOf(await project.run(['doctor'], env))).toBe('default');
  expect(entityOf(await project.run(['doctor', '--config', 'other.config.ts'], env))).toBe('other');
  expect(entityOf(await project.run(['--config', 'other.config.ts', 'doctor'], env))).toBe('other');
  expect(entityOf(await project.run(['doctor'], { ...env, MIKRO_ORM_CLI_CONFIG: './other.config.ts' }))).toBe('other');
  const settings = { 'mikro-orm': { configPaths: ['./other.config.ts'] } };
  const dependencies = { '@mikro-orm/cli': '7.2.1' };
  await project.app.write('package.json', JSON.stringify({ type: 'module', dependencies, ...settings }));
  expect(entityOf(await project.run(['doctor'], env))).toBe('other');
});

it('finds a configuration by its name', async () => {
  const named = await project.run(['doctor', '--contextName', 'second'], { ...env, NAME: 'second' });
  expect(named.code).toBe(1);
  const unknown = await project.run(['doctor', '--context', 'third'], { ...env, NAME: 'second' });
  expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('third') });
});

it('says what it needs when @mikro-orm/cli is not installed', async () => {
  await using bare = await createCliProject({ 'mikro-orm.config.ts': config('Default') });
  // the link to all packages of that scope
  await rm(join(bare.app.folder, 'node_modules/@mikro-orm'));
  const { code, stderr } = await bare.run(['doctor'], env);
  expect(stderr).toMatch(/needs the package @mikro-orm\/cli.*npm install --save-dev @mikro-orm\/cli/);
  expect(code).toBe(2);
});

it.each(['tsx', 'jiti'])('knows the subscriber of a CommonJS project that is loaded with %s', async (loader) => {
  await using common = await createCliProject({ 'mikro-orm.config.ts': config('Default') }, 'commonjs');
  const more = { ...env, MIKRO_ORM_CLI_TS_LOADER: loader };
  const { report } = await common.doctor(more);
  const codes = report.findings.map(({ code }) => code);
  expect(codes).toContain('natural-keys.table-missing');
  expect(codes).toContain('regions.process-only');
});
