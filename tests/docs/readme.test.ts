import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createPackedApp } from '../harness/packed-app.js';
import { createDatabase, dropDatabase } from '../harness/servers.js';
import { pages, readPage, root } from './pages.js';

async function quickStart(): Promise<string> {
  const readme = await readPage('README.md');
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

test.each(pages)('every file that %s links to exists', async (page) => {
  const text = await readPage(page);
  for (const [, link] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
    const target = resolve(root, page, '..', link!);
    await expect(readFile(target).catch((error: NodeJS.ErrnoException) => error.code)).resolves.not.toBe('ENOENT');
  }
});
