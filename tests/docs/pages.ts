import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '../..');

/** The pages of the documentation, as paths from the root. */
export const pages: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...globSync('docs/{,decisions/}*.md', { cwd: root }),
];

/** A fenced block of a page. */
export interface Block {
  readonly page: string;
  /** Of its first line of code. */
  readonly line: number;
  readonly language: string;
  readonly code: string;
  /** The file that it is, when its first line is a comment with a file name: `// tag.ts`. */
  readonly file: string | undefined;
  /** The names that a comment before it gives it. */
  readonly given: readonly string[];
}

export const readPage = (page: string): Promise<string> => readFile(join(root, page), 'utf8');

export async function blocksOf(page: string): Promise<Block[]> {
  const text = await readPage(page);
  const fences = text.matchAll(/(?:<!-- given: (?<given>[^>]*) -->\n+)?^```(?<language>\S*)\n(?<code>[^]*?)^```$/gm);
  return [...fences].map((match) => {
    const { given = '', language, code } = match.groups as { given?: string; language: string; code: string };
    return {
      page,
      line: text.slice(0, match.index + match[0].indexOf('```')).split('\n').length + 1,
      language,
      code,
      file: /^\/\/ ([\w-]+\.ts)\n/.exec(code)?.[1],
      given: given.split(',').flatMap((name) => name.trim() || []),
    };
  });
}
