import { Migrator } from '@mikro-orm/migrations';
import { PgliteDriver } from '@mikro-orm/pglite';
import { PostgreSqlDriver, type Options } from '@mikro-orm/postgresql';
import { Basket, BasketItem, Setting, Tag } from './examples/quickstart/entities.js';
import { PlusSubscriber } from './src/index.js';
import { withChangeLog } from './src/migrations.js';

const { DATABASE_URL, REDIS_URL } = process.env;

/**
 * The configuration of the demo and of MikroORM's command line. Without `DATABASE_URL` the database is PGlite, inside
 * this process and gone with it; without `REDIS_URL` cached rows stay in this process's memory.
 */
const config = withChangeLog<Options>({
  ...(DATABASE_URL
    ? { driver: PostgreSqlDriver, clientUrl: DATABASE_URL }
    : { driver: PgliteDriver as unknown as typeof PostgreSqlDriver, dbName: 'memory://' }),
  entities: [Tag, Setting, Basket, BasketItem],
  subscribers: [
    new PlusSubscriber({
      stores: { default: 'memory://', rows: REDIS_URL ?? 'memory://' },
      // the demo says who answered: a machine that stands still for a moment must not change that
      timeout: 5_000,
    }),
  ],
  extensions: [Migrator],
  migrations: { path: 'examples/quickstart/migrations', tableName: 'demo_migrations', snapshot: false },
});

export default config;
