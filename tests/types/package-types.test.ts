import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPackedApp, type PackedApp } from '../harness/packed-app.js';

let app: PackedApp;

beforeAll(async () => {
  app = await createPackedApp();
}, 300_000);

afterAll(() => app[Symbol.asyncDispose]());

test.each([
  ['ES decorators', 'es-decorators', {}],
  ['legacy decorators', 'legacy-decorators', { experimentalDecorators: true }],
  ['defineEntity', 'define-entity', {}],
  ['EntitySchema', 'entity-schema', {}],
])('the packed declarations type an application with %s', async (_, name, options) => {
  const file = `${name}.fixture.ts`;
  await app.write(file, await readFile(join(import.meta.dirname, file), 'utf8'));
  expect(await app.compile([file], options)).toBe('');
});

test('the packed declarations check by themselves', async () => {
  await app.write('declarations.ts', `export * from 'mikro-orm-plus';\n`);
  const complaints = await app.compile(['declarations.ts'], { skipLibCheck: false });
  expect(complaints.split('\n').filter((line) => line.includes('mikro-orm-plus/'))).toEqual([]);
});
