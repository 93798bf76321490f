import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createPackedApp } from '../harness/packed-app.js';
import { createDatabase, dropDatabase } from '../harness/servers.js';

const root = resolve(import.meta.dirname, '../..');

async function quickStart(): Promise<string> {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const block = /<!-- quick-start[^]*?```ts\n([^]*?)```/.exec(readme);
  return block![1]!;
}

test('the quick start of the README compiles, and prints what its comments say', async () => {
  const code = await quickStart();
  await using app = await createPackedApp();
  await app.write('quick-start.ts', code);
  expect(await app.compile(['quick-start.ts'])).toBe('');
  const url = await createDatabase('quickstart');
  try {
    const promised = [...code.matchAll(/console\.log\(.*?\); \/\/ ([\w ]+)/g)].map(([, text]) => text!.trim());
    const printed = (await app.node('quick-start.ts', { DATABASE_URL: url })).trim().split('\n');
    expect(promised).toHaveLength(2);
    expect(printed).toEqual(promised);
  } finally {
    await dropDatabase(url);
  }
});

test('every file that README and docs link to exists', async () => {
  for (const page of [
    'README.md',
    'docs/getting-started.md',
    'docs/get-or-create.md',
    'docs/caching.md',
    'docs/cli.md',
  ]) {
    const text = await readFile(join(root, page), 'utf8');
    for (const [, link] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      const target = resolve(root, page, '..', link!);
      await expect(readFile(target).catch((error: NodeJS.ErrnoException) => error.code)).resolves.not.toBe('ENOENT');
    }
  }
});
