import type { CLIHelper } from '@mikro-orm/cli';
import type { EntityManager, MikroORM, PostgreSqlDriver } from '@mikro-orm/postgresql';
import { PlusSubscriber } from '../PlusSubscriber.js';
import type { Meta } from '../orm/metadata.js';
import { UsageError, type Call } from './arguments.js';
import { suggestion } from './names.js';
import { errorText } from './terminal.js';
import { NoAnswerError, withinTime } from './within-time.js';

/** How long servers may take to say good-bye. One that hangs doesn't; the end of the process cuts its connections. */
const CLOSE_MS = 2_000;

/** The project that a command works on: its ORM, and the cache of that. */
export interface Project extends AsyncDisposable {
  readonly orm: MikroORM;
  readonly em: EntityManager;
  /** The subscriber that is registered, if any. */
  readonly plus: PlusSubscriber | undefined;
  /** All entity classes, by name. */
  readonly entities: readonly Meta[];
}

/** How MikroORM's own command line finds and opens the ORM. */
export type Host = Pick<typeof CLIHelper, 'getORM'>;

/**
 * Opens the ORM as MikroORM's own command line does. Nothing is connected yet.
 *
 * @throws {UsageError} when there is no configuration, or it can't be used
 */
export async function openProject(call: Call, host: Host): Promise<Project> {
  let orm: MikroORM;
  try {
    const paths = call.config && [...call.config];
    orm = await host.getORM<PostgreSqlDriver>(call.contextName, paths);
  } catch (error) {
    throw new UsageError(`MikroORM can't be started: ${errorText(error)}`, { cause: error });
  }
  const em = orm.em.fork();
  const plus = PlusSubscriber.of(em);
  return {
    orm,
    em,
    plus,
    entities: ([...em.getMetadata()] as unknown as Meta[])
      .filter(({ embeddable, pivotTable, abstract }) => !embeddable && !pivotTable && !abstract)
      .toSorted((one, other) => (one.className < other.className ? -1 : 1)),
    [Symbol.asyncDispose]: async () => {
      const closing = Promise.all([plus?.close(), orm.close(true)]);
      await withinTime(CLOSE_MS, closing).catch(ignoreNoAnswer);
    },
  };
}

/** @throws {UsageError} when there is no `PlusSubscriber` in the configuration */
export function requirePlus({ plus }: Project): PlusSubscriber {
  if (plus) return plus;
  throw new UsageError(
    'The configuration registers no PlusSubscriber, so there is no cache: add one to its `subscribers`.',
  );
}

/** @throws {UsageError} when there is no entity of that name */
export function findEntity({ entities }: Project, name: string): Meta {
  const meta = entities.find(({ className }) => className === name);
  if (meta) return meta;
  throw new UsageError(
    `There is no entity '${name}'. ${suggestion(
      name,
      entities.map(({ className }) => className),
    )}`,
  );
}

function ignoreNoAnswer(error: unknown): void {
  if (!(error instanceof NoAnswerError)) throw error;
}
