import { MikroORM } from '@mikro-orm/postgresql';
import config from '../../mikro-orm.config.js';
import { Basket, BasketItem, Setting, Tag } from './entities.js';
import { Narrator } from './narrator.js';

const narrator = new Narrator();
const orm = await MikroORM.init({ ...config, debug: ['query', 'query-params'], colors: false, logger: narrator.log });
await orm.migrator.up();

/** Names that no earlier run has used, for a database that outlives the demo. */
const run = process.env.DATABASE_URL ? `-${Date.now().toString(36)}` : '';
const created = ', created';

/** What a request handler would have: an EntityManager of its own. */
const request = () => orm.em.fork();

async function cachedImmutable(): Promise<void> {
  narrator.chapter('Cached, immutable: a tag that is only ever looked up');
  const name = `orm${run}`;
  const isNew = ([, isCreated]: [Tag, boolean]): boolean => isCreated;
  await narrator.step(
    `getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 1 })`,
    () => request().getRepository(Tag).getOrCreate({ name }, { weight: 1 }),
    { answers: [`database${created}`], statements: 2 },
    isNew,
  );
  await narrator.step(
    `the same in another request`,
    () => request().getRepository(Tag).getOrCreate({ name }, { weight: 2 }),
    { answers: ['store'], statements: 0 },
    ([tag, isCreated]) => !isCreated && tag.weight === 1,
  );
  const em = request();
  await em.getRepository(Tag).getOrCreate({ name });
  await narrator.step(
    `once more in that request`,
    () => em.getRepository(Tag).getOrCreate({ name }),
    { answers: ['identity map'], statements: 0 },
    (result) => !isNew(result),
  );
}

async function cachedMutable(): Promise<void> {
  narrator.chapter('Cached, mutable: a setting that is changed in between');
  const name = `theme${run}`;
  const get = () => request().getRepository(Setting).getOrCreate({ name }, { value: 'light' });
  await narrator.step(
    `getRepository(Setting).getOrCreate({ name: 'theme' }, { value: 'light' })`,
    get,
    { answers: [`database${created}`], statements: 2 },
    ([, isCreated]) => isCreated,
  );
  await narrator.step(`the same in another request`, get, { answers: ['store'], statements: 0 });
  await narrator.step(
    `setting.value = 'dark'; await em.flush()`,
    async () => {
      const em = request();
      const [setting] = await em.getRepository(Setting).getOrCreate({ name });
      setting.value = 'dark';
      await em.flush();
    },
    { answers: ['store'], statements: 3 },
  );
  const isDark = ([setting, isCreated]: [Setting, boolean]): boolean => setting.value === 'dark' && !isCreated;
  await narrator.step(`the next lookup asks the database`, get, { answers: ['database'], statements: 1 }, isDark);
  await narrator.step(`the one after that is cached again`, get, { answers: ['store'], statements: 0 }, isDark);
}

async function always(): Promise<void> {
  narrator.chapter('Always: every get is a get-or-create');
  const name = `language${run}`;
  await narrator.step(
    `getRepository(Setting).get({ name: 'language' })`,
    () => request().getRepository(Setting).get({ name }),
    { answers: [`database${created}`], statements: 2 },
    (setting) => setting.value === 'unset',
  );
  await narrator.step(
    `getRepository(Setting).findOneOrFail({ name: 'language' })`,
    () => request().getRepository(Setting).findOneOrFail({ name }),
    { answers: ['store'], statements: 0 },
  );
}

async function parentWithChildren(): Promise<void> {
  narrator.chapter('Non-atomic: a parent with children, all inside the one transaction of the caller');
  const label = `breakfast${run}`;
  const items = [{ name: 'bread' }, { name: 'jam' }];
  const basket = await narrator.step(
    `em.transactional(inner => inner.getRepository(Basket).getOrCreate({ label: 'breakfast' }, { items }))`,
    () => request().transactional((inner) => inner.getRepository(Basket).getOrCreate({ label }, { items })),
    {
      answers: [`database${created}`, `database${created}`, `database${created}`],
      // begin, the isolation level, three times select and insert, commit
      statements: 9,
    },
    ([, isCreated]) => isCreated,
  );
  await narrator.step(
    `the children are there`,
    () => request().count(BasketItem, { basket: basket[0].id }),
    { answers: [], statements: 1 },
    (count) => count === items.length,
  );
}

async function race(): Promise<void> {
  narrator.chapter('A race: two requests for one new key at the same moment');
  const label = `lunch${run}`;
  const one = () => request().getRepository(Basket).getOrCreate({ label }, { items: [] });
  await narrator.step(
    `Promise.all([getOrCreate({ label: 'lunch' }), getOrCreate({ label: 'lunch' })])`,
    () => Promise.all([one(), one()]),
    [
      // what they ask for in one turn of the event loop is one statement: a select, an insert, a select of the winner's row
      { answers: [`database${created}`, 'database, after a lost race'], statements: 3 },
      // or one request was a turn behind, and its own insert finds the key taken
      { answers: [`database${created}`, 'database, after a lost race'], statements: 4 },
    ],
    ([[left, leftCreated], [right, rightCreated]]) => left.id === right.id && leftCreated !== rightCreated,
  );
}

try {
  await cachedImmutable();
  await cachedMutable();
  await always();
  await parentWithChildren();
  await race();
} finally {
  await orm.close();
}
process.exitCode = narrator.end();
