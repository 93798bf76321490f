import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as library from '../../src/index.js';
import { readPage, root } from './pages.js';

const errors = Object.entries(library).filter(
  ([, value]) => typeof value === 'function' && value.prototype instanceof library.PlusError,
) as unknown as [name: string, error: new (message: string) => library.PlusError][];

/** The texts of all sources, with the pieces of a long message put together, and what is filled in left out. */
async function messages(): Promise<string> {
  const files = globSync('src/**/*.ts', { cwd: root });
  const texts = await Promise.all(files.map((file) => readFile(join(root, file), 'utf8')));
  return texts
    .join('\n')
    .replaceAll(/['"`] \+\s+['"`]/g, '')
    .replaceAll("\\'", "'");
}

test('troubleshooting has a chapter for every error class, with its code', async () => {
  const text = await readPage('docs/troubleshooting.md');
  expect(errors.length).toBeGreaterThan(6);
  for (const [name, error] of errors) expect(text).toContain(`\n## \`${name}\`, \`${new error('').code}\`\n`);
});

test('the messages that troubleshooting quotes are those of the sources', async () => {
  const text = await readPage('docs/troubleshooting.md');
  const [ours] = text.split('## Errors of the database');
  const quoted = [...ours!.matchAll(/^(?:\| )?`([^`]+)`(?: *\||:)/gm)].map(([, message]) => message!);
  expect(quoted.length).toBeGreaterThan(40);
  const sources = await messages();
  const isThere = (message: string): boolean => message.split('…').every((part) => sources.includes(part.trim()));
  expect(quoted.filter((message) => !isThere(message))).toEqual([]);
});
