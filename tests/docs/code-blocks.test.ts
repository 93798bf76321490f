import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPackedApp, type PackedApp } from '../harness/packed-app.js';
import { createDatabase, dropDatabase } from '../harness/servers.js';
import { blocksOf, pages, readPage, type Block } from './pages.js';

/** Of other programs, or output: nothing that we could compile. */
const PLAIN = new Set(['sh', 'sql', 'text', 'mermaid']);
/** Code of other libraries: the page has to say that nobody compiles it. */
const FOREIGN = new Set(['python', 'ruby', 'js']);

const folderOf = (page: string): string => page.replace(/\.md$/, '').replaceAll('/', '-');
const fileOf = ({ file, line }: Block): string => file ?? `line-${line}.ts`;

let app: PackedApp | undefined;
beforeAll(async () => {
  app = await createPackedApp();
});
afterAll(() => app?.[Symbol.asyncDispose]());

/** Puts blocks into a folder of the application; those of a page see each other by their file names. */
async function write(name: string, blocks: readonly Block[]): Promise<string> {
  const folder = join(app!.folder, name);
  await mkdir(folder);
  await writeFile(join(folder, 'given.ts'), await readFile(join(import.meta.dirname, 'given.fixture.ts')));
  const compilerOptions = {
    target: 'es2024',
    lib: ['es2024', 'esnext.decorators', 'esnext.disposable'],
    module: 'nodenext',
    strict: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node'],
  };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['**/*.ts'] }));
  for (const block of blocks) {
    const { page, given, code } = block;
    await mkdir(join(folder, folderOf(page)), { recursive: true });
    const preamble = given.length === 0 ? '' : `import { ${given.join(', ')} } from '../given.js';\n`;
    await writeFile(join(folder, folderOf(page), fileOf(block)), `${preamble}${code}\nexport {};\n`);
  }
  return folder;
}

async function typescriptBlocks(): Promise<Block[]> {
  return (await Promise.all(pages.map(blocksOf))).flat().filter(({ language }) => language === 'ts');
}

test('every TypeScript block of README and docs compiles against the packed library', async () => {
  const blocks = await typescriptBlocks();
  expect(blocks.length).toBeGreaterThan(30);
  await write('blocks', blocks);
  expect(await app!.build('blocks')).toBe('');
});

test('a block that calls what is not there is told with its page and line', async () => {
  const block = (await typescriptBlocks()).find(({ code }) => code.includes('.getOrCreate({'))!;
  await write('broken', [{ ...block, code: block.code.replace('.getOrCreate({', '.getOrCreat({') }]);
  const complaints = await app!.build('broken');
  expect(complaints).toContain(`${folderOf(block.page)}/${fileOf(block)}`);
  expect(complaints).toContain("'getOrCreat' does not exist");
});

test('getting started runs, and prints what its comments say', async () => {
  const blocks = await blocksOf('docs/getting-started.md');
  await write(
    'started',
    blocks.filter(({ language }) => language === 'ts'),
  );
  const { code } = blocks.find(({ file }) => file === 'main.ts')!;
  const promised = [...code.matchAll(/console\.log\(.*\); \/\/ (.+)/g)].map(([, text]) => text);
  const url = await createDatabase('started');
  try {
    const printed = await app!.node('started/docs-getting-started/main.ts', { DATABASE_URL: url });
    expect(printed.trim().split('\n')).toEqual(promised);
    expect(promised).toHaveLength(2);
  } finally {
    await dropDatabase(url);
  }
});

test.each(pages)('%s names the language of each block, and says which are not compiled', async (page) => {
  const text = await readPage(page);
  const blocks = await blocksOf(page);
  expect(text.match(/^ *```/gm) ?? []).toHaveLength(2 * blocks.length);
  const languages = new Set(blocks.map(({ language }) => language));
  const isForeign = [...languages].some((language) => FOREIGN.has(language));
  expect([...languages].filter((name) => name !== 'ts' && !PLAIN.has(name) && !FOREIGN.has(name))).toEqual([]);
  expect(isForeign).toBe(/aren't compiled/.test(text));
});
