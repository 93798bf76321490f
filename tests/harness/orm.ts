import { DefaultLogger, type LogContext, MikroORM, type Options } from '@mikro-orm/postgresql';
import { closePglites, pgliteOptions, takePglite } from './pglite.js';
import { createDatabase, dropDatabase } from './servers.js';

/** The SQL that an ORM has sent, in order, with its parameters filled in; `begin` and `commit` included. */
class StatementLog {
  #statements: string[] = [];

  add(statement: string): void {
    this.#statements.push(statement);
  }

  /** Everything since the last call, which it forgets. */
  take(): string[] {
    return this.#statements.splice(0);
  }
}

export interface TestOrm extends AsyncDisposable {
  orm: MikroORM;
  /** Of the database, for {@link connectTestOrm}, `rawClient` and worker processes. */
  url: string;
  statements: StatementLog;
  /** Ends the connections, and drops the database if it was made for this ORM. */
  close: () => Promise<void>;
}

type TestOrmOptions = Omit<Options, 'clientUrl' | 'dbName' | 'debug' | 'logger' | 'loggerFactory'> &
  Required<Pick<Options, 'entities'>>;

const open = new Set<TestOrm>();

// Whatever a failed test left open. (Worker processes use this module outside Jest.)
if (typeof afterAll === 'function') {
  afterAll(async () => {
    for (const testOrm of [...open].toReversed()) {
      await testOrm.close();
    }
    await closePglites();
  });
}

/** An ORM on a new database that has the tables of its entities. */
export async function createTestOrm(options: TestOrmOptions): Promise<TestOrm> {
  const database = await makeDatabase();
  const { url } = database;
  const testOrm = await connectTestOrm(url, options);
  await testOrm.orm.schema.create();
  testOrm.statements.take();

  const close = async () => {
    for (const other of open) {
      if (other !== owner && other.url === url) {
        await other.close();
      }
    }
    await testOrm.close();
    if (open.delete(owner)) {
      await database.drop();
    }
  };
  const owner: TestOrm = { ...testOrm, close, [Symbol.asyncDispose]: close };
  open.delete(testOrm);
  open.add(owner);
  return owner;
}

/** An empty database of the server's, or in this process when `PLUS_TEST_DRIVER` is `pglite`. */
async function makeDatabase(): Promise<{ url: string; drop: () => Promise<void> }> {
  if (process.env.PLUS_TEST_DRIVER === 'pglite') return takePglite();
  const url = await createDatabase('orm');
  return { url, drop: () => dropDatabase(url) };
}

/** A further, connected ORM on a database that has its tables already, like a second process of the same service. */
export async function connectTestOrm(url: string, options: TestOrmOptions): Promise<TestOrm> {
  const statements = new StatementLog();
  const orm = await MikroORM.init({
    pool: { min: 0, max: 10 },
    ...options,
    ...(pgliteOptions(url) ?? { clientUrl: url }),
    debug: ['query', 'query-params'],
    loggerFactory: (loggerOptions) => new RecordingLogger(loggerOptions, statements),
  });
  await orm.connect();
  statements.take();
  let isClosed = false;
  const close = async () => {
    open.delete(testOrm);
    if (!isClosed) {
      isClosed = true;
      await orm.close();
    }
  };
  const testOrm: TestOrm = { orm, url, statements, close, [Symbol.asyncDispose]: close };
  open.add(testOrm);
  return testOrm;
}

class RecordingLogger extends DefaultLogger {
  constructor(
    options: ConstructorParameters<typeof DefaultLogger>[0],
    private readonly statements: StatementLog,
  ) {
    super(options);
  }

  override logQuery(context: { query: string } & LogContext): void {
    if (this.isEnabled(context.namespace ?? 'query', context)) {
      this.statements.add(context.query);
    }
  }
}
