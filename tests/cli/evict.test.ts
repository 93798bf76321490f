import { defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from '../../src/index.js';
import { connectTestOrm, type TestOrm } from '../harness/orm.js';
import { createDatabase, testPrefix, testRedisUrl } from '../harness/servers.js';
import { createCliProject, type CliProject } from './project.js';

/** The same for the application and for the project's configuration. */
const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { cacheRegion, PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const Author = withPlusRepo(defineEntity({ name: 'Author', properties: { id: p.bigint().primary(), name: p.string().unique(), secret: p.string().hidden().nullable().unique() } }));
const Seat = withPlusRepo(defineEntity({ name: 'Seat', properties: { row: p.integer().primary(), place: p.integer().primary(), since: p.datetime().nullable() } }));
const Local = cacheRegion(withPlusRepo(defineEntity({ name: 'Local', properties: { id: p.integer().primary(), name: p.string().unique() } })), { store: 'local' });
const Plain = defineEntity({ name: 'Plain', properties: { id: p.integer().primary() } });
export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [Author, Seat, Plain, ...(process.env.LOCAL ? [Local] : [])],
  subscribers: [new PlusSubscriber({
    stores: { default: process.env.REDIS_URL!, local: 'memory://' },
    prefix: process.env.PREFIX!,
    relay: process.env.LOCAL === 'followed',
  })],
});`;

const Author = withPlusRepo(
  defineEntity({
    name: 'Author',
    properties: {
      id: p.bigint().primary(),
      name: p.string().unique(),
      secret: p.string().hidden().nullable().unique(),
    },
  }),
);
const Seat = withPlusRepo(
  defineEntity({
    name: 'Seat',
    properties: { row: p.integer().primary(), place: p.integer().primary(), since: p.datetime().nullable() },
  }),
);
const Local = cacheRegion(
  withPlusRepo(defineEntity({ name: 'Local', properties: { id: p.integer().primary(), name: p.string().unique() } })),
  { store: 'local' },
);

let project: CliProject;
let app: TestOrm;
let env: Record<string, string>;

beforeAll(async () => {
  const prefix = `${testPrefix()}evict`;
  const stores = { default: testRedisUrl(), local: 'memory://' };
  const plus = new PlusSubscriber({ stores, prefix, timeout: 10_000 });
  app = await connectTestOrm(await createDatabase('evict'), { entities: [Author, Seat, Local], subscribers: [plus] });
  await app.orm.schema.create();
  env = { DATABASE_URL: app.url, REDIS_URL: testRedisUrl(), PREFIX: prefix };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
});
afterAll(() => project?.[Symbol.asyncDispose]());

const evict = (args: string[], more: Record<string, string> = {}) =>
  project.run(['evict', ...args], { ...env, ...more });

/** Whether a lookup of an author is answered without SQL. */
async function isCached(name: string): Promise<boolean> {
  app.statements.take();
  await app.orm.em.fork().getRepository(Author).getOrCreate({ name });
  return app.statements.take().length === 0;
}
async function cache(name: string): Promise<void> {
  for (let attempt = 0; attempt < 5 && !(await isCached(name)); attempt += 1);
  expect(await isCached(name)).toBe(true);
}
const idOf = async (name: string): Promise<string> => {
  const [author] = await app.orm.em.fork().getRepository(Author).getOrCreate({ name });
  return String(author.id);
};

it('removes one row by natural key, and by primary key, and no other', async () => {
  await cache('Ursula');
  await cache('Iain');
  const byName = await evict(['Author', 'name=Ursula']);
  expect(byName).toMatchObject({ code: 0, stderr: '' });
  expect(byName.stdout).toBe("Author { name: 'Ursula' }: 1 row removed from the store 'default'\n");
  expect(await isCached('Iain')).toBe(true);
  expect(await isCached('Ursula')).toBe(false);

  await cache('Ursula');
  const byId = await evict(['Author', `id=${await idOf('Ursula')}`]);
  expect(byId.stdout).toMatch(/^Author { id: \d+n? }: 1 row removed from the store 'default'\n$/);
  expect(await isCached('Ursula')).toBe(false);
});

it('says when there is nothing to remove, and shows no hidden values', async () => {
  const nobody = await evict(['Author', 'name=Nobody']);
  expect(nobody).toMatchObject({ code: 0 });
  expect(nobody.stdout).toMatch(/^Author { name: 'Nobody' }: no such row in the database, and the cache knows none/);
  const hidden = await evict(['Author', 'secret=Swordfish-77']);
  expect(hidden.stdout).toMatch(/^Author { secret: \[hidden\] }: no such row/);
  const never = await evict(['Author', 'id=123456789012345678']);
  expect(never.stdout).toMatch(/: was not cached in the store 'default'\n$/);
});

it('takes the parts of a composite key one by one', async () => {
  const repo = () => app.orm.em.fork().getRepository(Seat);
  for (let time = 0; time < 3; time += 1) await repo().getOrCreate({ row: 1, place: 2 });
  const { code, stdout } = await evict(['Seat', 'row=1', 'place=2']);
  expect(code).toBe(0);
  expect(stdout).toBe("Seat { row: 1, place: 2 }: 1 row removed from the store 'default'\n");
});

it('removes all rows of an entity, and everything', async () => {
  await cache('Ursula');
  expect(await evict(['Author'])).toMatchObject({
    code: 0,
    stdout: "Author: all rows removed from the store 'default'\n",
  });
  expect(await isCached('Ursula')).toBe(false);
  await cache('Ursula');
  const all = await evict(['--all']);
  expect(all).toMatchObject({ code: 0, stderr: '' });
  expect(all.stdout.split('\n').toSorted()).toEqual([
    '',
    "Author: all rows removed from the store 'default'",
    "Seat: all rows removed from the store 'default'",
  ]);
  expect(await isCached('Ursula')).toBe(false);
});

it.each<[mistake: string, args: string[], message: RegExp]>([
  ['an unknown entity', ['Auther'], /There is no entity 'Auther'\. Did you mean 'Author'\?/],
  ['a value of another type', ['Seat', 'row=first', 'place=2'], /'first' is no value for 'row', which takes a number/],
  ['an entity that is not cached', ['Plain'], /Plain is not cached: it has no cached repository/],
  ['neither entity nor --all', [], /Name an entity to evict, or use --all/],
  ['both of them', ['Author', '--all'], /Either 'evict --all', or 'evict Author'/],
])('refuses %s', async (_, args, message) => {
  const { code, stdout, stderr } = await evict(args);
  expect(stderr).toMatch(message);
  expect(stdout).toBe('');
  expect(code).toBe(2);
});

it('has exit code 1 when the store is down', async () => {
  const { code, stderr } = await evict(['Author', 'name=Ursula'], { REDIS_URL: 'redis://:Swordfish-77@127.0.0.1:1' });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^error /);
  expect(stderr).not.toContain('Swordfish-77');
  const all = await evict(['--all'], { REDIS_URL: 'redis://127.0.0.1:1' });
  expect(all.code).toBe(1);
  expect(all.stderr).toMatch(/error Author was not removed: /);
});

it('can’t reach the memory of processes, unless they follow the change log', async () => {
  const { code, stderr } = await evict(['Local', 'name=x'], { LOCAL: 'alone' });
  expect(code).toBe(1);
  expect(stderr).toMatch(/which is in the memory of each process and out of reach from here/);

  const follower = new PlusSubscriber({ stores: { local: 'memory://' }, relay: true });
  const other = await connectTestOrm(app.url, { entities: [Local], subscribers: [follower] });
  await follower.start(other.orm);
  const isLocal = async (): Promise<boolean> => {
    other.statements.take();
    await other.orm.em.fork().getRepository(Local).getOrCreate({ name: 'x' });
    return other.statements.take().length === 0;
  };
  for (let attempt = 0; attempt < 50 && !(await isLocal()); attempt += 1);
  expect(await isLocal()).toBe(true);
  const told = await evict(['Local', 'name=x'], { LOCAL: 'followed' });
  expect(told.stdout).toMatch(/^Local: all processes were told to forget its rows/);
  expect(told.code).toBe(0);
  expect(await isLocal()).toBe(false);
  await other.close();
});
