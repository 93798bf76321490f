import { parseArgs, type ParseArgsConfig } from 'node:util';

/** A mistake in the command line, or a project that a command can't work with: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

type OptionConfig = NonNullable<ParseArgsConfig['options']>[string] & { readonly help: string };

interface CommandSpec {
  readonly usage: string;
  readonly summary: string;
  readonly about: string;
  readonly options: Readonly<Record<string, OptionConfig>>;
  /** Most arguments beside the options. */
  readonly most: number;
}

const schema = { type: 'string', help: 'schema of the entities that are in every schema (schema: "*")' } as const;
const json = { type: 'boolean', help: 'print JSON, for other programs' } as const;

const commands = {
  doctor: {
    usage: 'doctor [--json] [--schema <name>]',
    summary: 'check database, stores and relay, and say what to do about what is wrong',
    about: 'Changes nothing. The exit code is 1 when there is a problem; warnings alone leave it 0.',
    options: { json, schema },
    most: 0,
  },
  relay: {
    usage: 'relay',
    summary: 'deliver changes made outside the ORM to the cache, until it is stopped',
    about: 'Runs in the foreground. SIGINT (Ctrl-C) and SIGTERM end it.',
    options: {},
    most: 0,
  },
  evict: {
    usage: 'evict <Entity> [property=value …] | evict --all',
    summary: 'remove one row, all rows of an entity, or everything from the cache',
    about:
      'Rows are named by primary key or natural key, with one property=value for each property; parts of an ' +
      'embeddable as address.city=Rome.',
    options: { all: { type: 'boolean', help: 'all rows of all cached entities' }, schema },
    most: Infinity,
  },
  stats: {
    usage: 'stats [Entity] [--watch] [--interval <seconds>] [--json]',
    summary: 'show the counters of running processes, and what Redis holds',
    about: 'Processes are seen when PlusSubscriber has the option shareStatistics. Counting entries scans their keys.',
    options: {
      watch: { type: 'boolean', help: 'go on until it is stopped, and show what changes' },
      interval: { type: 'string', help: 'seconds between two looks with --watch (default: 2)' },
      json,
    },
    most: 1,
  },
  'warm-up': {
    usage: 'warm-up <Entity> [property=value …] [--chunk <rows>]',
    summary: 'put the rows of an entity, or those with certain values, into the cache',
    about: 'Rows are read in chunks. One that is written meanwhile is left out. SIGINT (Ctrl-C) ends it.',
    options: { chunk: { type: 'string', help: 'rows that are read at a time (default: 1000)' }, schema },
    most: Infinity,
  },
} as const satisfies Record<string, CommandSpec>;

export type CommandName = keyof typeof commands;

const common = {
  config: { type: 'string', multiple: true, help: "path of MikroORM's configuration file; may be repeated" },
  contextName: { type: 'string', help: 'name of the configuration in that file (also --context)' },
  context: { type: 'string', help: '' },
  help: { type: 'boolean', short: 'h', help: 'show this help' },
  version: { type: 'boolean', short: 'v', help: 'show the version' },
} as const satisfies Record<string, OptionConfig>;

/** A command line that was understood. */
export type Invocation =
  { readonly kind: 'help'; readonly of: CommandName | undefined } | { readonly kind: 'version' } | Call;

/** A command to run, and with what. */
export interface Call {
  readonly kind: 'command';
  readonly command: CommandName;
  readonly args: readonly string[];
  /** Paths of configuration files to look for; `undefined` for those that MikroORM looks for. */
  readonly config: readonly string[] | undefined;
  readonly contextName: string | undefined;
  readonly options: {
    readonly json: boolean;
    readonly all: boolean;
    readonly watch: boolean;
    readonly intervalMs: number;
    readonly chunkSize: number;
    readonly schema: string | undefined;
  };
}

/** @throws {UsageError} for an unknown command or option, or too many arguments */
export function parseCommandLine(argv: readonly string[]): Invocation {
  const name = firstWord(argv);
  const command = name !== undefined && Object.hasOwn(commands, name) ? (name as CommandName) : undefined;
  const { values, positionals } = parse(argv, command ? commands[command].options : {}, name);
  if (values.version) return { kind: 'version' };
  if (values.help || name === undefined) return { kind: 'help', of: command };
  if (!command) throw new UsageError(`There is no command '${name}'. Commands: ${Object.keys(commands).join(', ')}.`);
  const args = positionals.slice(1);
  if (args.length > commands[command].most) {
    throw new UsageError(`Too many arguments. Usage: mikro-orm-plus ${commands[command].usage}`);
  }
  return {
    kind: 'command',
    command,
    args,
    config: values.config as string[] | undefined,
    contextName: (values.contextName ?? values.context) as string | undefined,
    options: {
      json: values.json === true,
      all: values.all === true,
      watch: values.watch === true,
      intervalMs: milliseconds(values.interval as string | undefined),
      chunkSize: chunkSize(values.chunk as string | undefined),
      schema: values.schema as string | undefined,
    },
  };
}

/** The name of the command: the first word that is no option, nor the value of one. */
function firstWord(argv: readonly string[]): string | undefined {
  const all = Object.assign({}, common, ...Object.values(commands).map(({ options }) => options)) as typeof common;
  return parseArgs({ args: [...argv], options: configs(all), allowPositionals: true, strict: false }).positionals[0];
}

function configs(options: Readonly<Record<string, OptionConfig>>): NonNullable<ParseArgsConfig['options']> {
  return Object.fromEntries(
    Object.entries(options).map(([name, { type, short, multiple }]) => [
      name,
      { type, multiple: multiple === true, ...(short !== undefined && { short }) },
    ]),
  );
}

function parse(
  argv: readonly string[],
  own: Readonly<Record<string, OptionConfig>>,
  name: string | undefined,
): ReturnType<typeof parseArgs> {
  try {
    return parseArgs({ args: [...argv], options: configs({ ...common, ...own }), allowPositionals: true });
  } catch (error) {
    const hint = name !== undefined && Object.hasOwn(commands, name) ? `${name} ` : '';
    const message = (error as Error).message.replace(/\. To specify a positional.*$/s, '');
    throw new UsageError(`${message}. See mikro-orm-plus ${hint}--help`, { cause: error });
  }
}

function milliseconds(seconds = '2'): number {
  const value = Number(seconds);
  if (!(value >= 0.1 && value <= 3_600)) {
    throw new UsageError(`--interval takes seconds, from 0.1 to 3600; it is '${seconds}'.`);
  }
  return value * 1_000;
}

function chunkSize(rows = '1000'): number {
  const value = Number(rows);
  if (!Number.isInteger(value) || value < 1 || value > 100_000) {
    throw new UsageError(`--chunk takes a number of rows, from 1 to 100000; it is '${rows}'.`);
  }
  return value;
}

/** The help of one command, or of all. */
export function helpText(of: CommandName | undefined): string {
  if (!of) {
    const rows = Object.entries(commands).map(([name, { summary }]): [string, string] => [name, summary]);
    return [
      'Usage: mikro-orm-plus <command> [options]',
      `Commands:\n${columns(rows)}`,
      `Options of every command:\n${optionLines(common)}`,
      "The configuration is found as MikroORM's own command line finds it.\n" +
        'Exit codes: 0 fine, 1 problems found or the command failed, 2 wrong usage or no configuration.',
    ].join('\n\n');
  }
  const { usage, summary, about, options } = commands[of];
  const [first, ...rest] = summary;
  return [
    `Usage: mikro-orm-plus ${usage}`,
    `${first!.toUpperCase()}${rest.join('')}.\n${about}`,
    `Options:\n${optionLines({ ...options, ...common })}`,
  ].join('\n\n');
}

function optionLines(options: Readonly<Record<string, OptionConfig>>): string {
  const rows = Object.entries(options)
    .filter(([, { help }]) => help !== '')
    .map(([name, { type, short, help }]): [string, string] => [
      `${short ? `-${short}, ` : ''}--${name}${type === 'string' ? ' <…>' : ''}`,
      help,
    ]);
  return columns(rows);
}

function columns(rows: readonly [string, string][]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n');
}
