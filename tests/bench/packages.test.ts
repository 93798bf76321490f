import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');

function versions(path: string): Record<string, string> {
  const manifest = JSON.parse(readFileSync(resolve(root, path), 'utf8')) as Record<string, Record<string, string>>;
  return { ...manifest['dependencies'], ...manifest['devDependencies'] };
}

test('the benchmark measures with the packages that the library is developed with', () => {
  const library = versions('package.json');
  const bench = versions('bench/package.json');
  // ioredis 5 is there for peers that refuse 6
  const shared = Object.keys(bench).filter((name) => name in library && name !== 'ioredis');
  expect(shared).toEqual(expect.arrayContaining(['@mikro-orm/core', '@mikro-orm/postgresql', 'lru-cache', 'pg']));
  for (const name of shared) expect(`${name} ${bench[name]}`).toBe(`${name} ${library[name]}`);
  expect(bench['ioredis-6']).toBe(`npm:ioredis@${library['ioredis']}`);
});

test('what the peers need is no dependency of the library', () => {
  const library = versions('package.json');
  const peers = ['sequelize', 'typeorm', '@prisma/client', 'drizzle-orm', 'bentocache', 'echarts'];
  expect(peers.filter((name) => name in library)).toEqual([]);
});
