#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { helpText, parseCommandLine, UsageError, type Call } from './arguments.js';
import type * as project from './run.js';
import { printError } from './terminal.js';

/** How long a process stays for connections that are still open after everything has been closed. */
const LINGER_MS = 1_000;

process.exitCode = await main(process.argv.slice(2));
// only what hangs is left to keep the process alive; what was printed goes out first
setTimeout(() => process.stdout.write('', () => process.exit()), LINGER_MS).unref();

/** Returns the exit code: 0 fine, 1 problems found or the command failed, 2 wrong usage or no configuration. */
async function main(argv: readonly string[]): Promise<number> {
  try {
    const invocation = parseCommandLine(argv);
    if (invocation.kind === 'command') return await runInProject(invocation);
    process.stdout.write(`${invocation.kind === 'version' ? ownVersion() : helpText(invocation.of)}\n`);
    return argv.length === 0 ? 2 : 0;
  } catch (error) {
    printError(error);
    return error instanceof Error && error.name === 'UsageError' ? 2 : 1;
  }
}

/**
 * Runs a command with the copy of this library that the project's configuration uses. In a CommonJS project, loaders of
 * TypeScript make copies of their own out of ES modules; a `PlusSubscriber` of one copy is unknown to the other. So the
 * command itself is loaded the way in which MikroORM loads the configuration.
 */
async function runInProject(call: Call): Promise<number> {
  const { CLIHelper, configure } = await importMikroOrmCli();
  const { fs } = await import('@mikro-orm/core/fs-utils');
  try {
    await configure();
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
  CLIHelper.commonJSCompat({});
  const { run } = await fs.dynamicImport<typeof project>(new URL('run.js', import.meta.url).href);
  return run(call, CLIHelper);
}

async function importMikroOrmCli() {
  try {
    return await import('@mikro-orm/cli');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new UsageError(
      'The command line needs the package @mikro-orm/cli, which finds the configuration: npm install --save-dev @mikro-orm/cli',
      { cause: error },
    );
  }
}

function ownVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
