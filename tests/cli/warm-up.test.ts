import { defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, withPlusRepo } from '../../src/index.js';
import { connectTestOrm, type TestOrm } from '../harness/orm.js';
import { createDatabase, testPrefix, testRedisUrl } from '../harness/servers.js';
import { createCliProject, type CliProject } from './project.js';

const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const properties = { id: p.integer().primary(), name: p.string().unique(), shelf: p.integer() };
const Book = withPlusRepo(defineEntity({ name: 'Book', properties }));
const Local = cacheRegion(withPlusRepo(defineEntity({ name: 'Local', properties })), { store: 'local' });
const Plain = defineEntity({ name: 'Plain', properties });
export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [Book, Local, Plain],
  subscribers: [new PlusSubscriber({
    stores: { default: process.env.REDIS_URL!, local: 'memory://' },
    prefix: process.env.PREFIX!,
    timeout: 10_000,
  })],
});`;

const Book = withPlusRepo(
  defineEntity({
    name: 'Book',
    properties: { id: p.integer().primary(), name: p.string().unique(), shelf: p.integer() },
  }),
);

let project: CliProject;
let app: TestOrm;
let plus: PlusSubscriber;
let env: Record<string, string>;

beforeAll(async () => {
  const prefix = `${testPrefix()}warm-up`;
  plus = new PlusSubscriber({ stores: { default: testRedisUrl() }, prefix, timeout: 10_000 });
  app = await connectTestOrm(await createDatabase('warm-up'), { entities: [Book], subscribers: [plus] });
  await app.orm.schema.create();
  await app.orm.em.execute(`insert into book (name, shelf) select 'book ' || n, n % 2 from generate_series(1, 10) n`);
  env = { DATABASE_URL: app.url, REDIS_URL: testRedisUrl(), PREFIX: prefix };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
});
afterAll(() => project?.[Symbol.asyncDispose]());

const warmUp = (args: string[], more: Record<string, string> = {}) =>
  project.run(['warm-up', ...args], { ...env, ...more });

/** How many of the books are found without SQL. */
async function cached(): Promise<number> {
  const names = Array.from({ length: 10 }, (_value, index) => `book ${index + 1}`);
  const before = plus.statistics(Book).storeHits;
  await app.orm.em
    .fork()
    .getRepository(Book)
    .getOrCreateMany(
      names.map((name) => ({ name })),
      { shelf: 0 },
    );
  return plus.statistics(Book).storeHits - before;
}

it('puts the rows with certain values into the cache, and those of a whole entity', async () => {
  const some = await warmUp(['Book', 'shelf=1']);
  expect(some).toMatchObject({ code: 0, stderr: '', stdout: "Book: 5 rows put into the store 'default'\n" });
  expect(await cached()).toBe(5);
  await app.orm.em.fork().getRepository(Book).evictAll();

  const all = await warmUp(['Book', '--chunk', '3']);
  expect(all).toMatchObject({ code: 0, stderr: '', stdout: "Book: 10 rows put into the store 'default'\n" });
  expect(await cached()).toBe(10);
});

it.each<[mistake: string, args: string[], message: RegExp]>([
  ['no entity', [], /Name an entity to warm up/],
  ['an unknown entity', ['Bok'], /There is no entity 'Bok'\. Did you mean 'Book'\?/],
  ['an unknown property', ['Book', 'shlef=1'], /Book has no property 'shlef'/],
  ['an entity that is not cached', ['Plain'], /Plain is not cached: it has no cached repository/],
  ['rows in the memory of processes', ['Local'], /in the memory of each process: call warmUp\(\) there/],
  ['a chunk of no rows', ['Book', '--chunk', '0'], /--chunk takes a number of rows/],
])('refuses %s', async (_, args, message) => {
  const { code, stdout, stderr } = await warmUp(args);
  expect(stderr).toMatch(message);
  expect(stdout).toBe('');
  expect(code).toBe(2);
});

it('has exit code 1 when the store is down', async () => {
  const { code, stderr } = await warmUp(['Book'], { REDIS_URL: 'redis://127.0.0.1:1' });
  expect(stderr).toMatch(/^error /);
  expect(code).toBe(1);
});
