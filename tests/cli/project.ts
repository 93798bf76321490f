import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { createPackedApp, type PackedApp } from '../harness/packed-app.js';

// each command is a process of its own, and a test runs several
jest.setTimeout(600_000);

/** What a command printed, and how it ended. */
export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A finding of `doctor --json`. */
export interface JsonFinding {
  topic: string;
  code: string;
  severity: 'ok' | 'warning' | 'problem';
  subject: string;
  message: string;
  remedy: string[];
}

export interface DoctorJson {
  format: number;
  problems: number;
  warnings: number;
  passed: number;
  findings: JsonFinding[];
}

/** A project with the packed library, in which a person runs commands. */
export interface CliProject extends AsyncDisposable {
  readonly app: PackedApp;
  /** Runs `npx mikro-orm-plus …`. */
  run(args: string[], env?: Record<string, string>): Promise<CliResult>;
  /** Runs `npx mikro-orm …`. */
  mikroOrm(args: string[], env?: Record<string, string>): Promise<CliResult>;
  /** Starts `npx mikro-orm-plus …` and leaves it running. */
  start(args: string[], env?: Record<string, string>): RunningCommand;
  /** Runs `doctor --json`; fails when what it prints is no JSON. */
  doctor(env?: Record<string, string>, args?: string[]): Promise<{ code: number | null; report: DoctorJson }>;
}

/** A command that runs until it is stopped. */
interface RunningCommand extends AsyncDisposable {
  readonly child: ChildProcess;
  output(): string;
  /** Waits until the output matches. */
  until(pattern: RegExp): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<CliResult>;
}

const PATIENCE_MS = 120_000;

/** @param type of the project: `module`, or `commonjs` */
export async function createCliProject(files: Record<string, string>, type = 'module'): Promise<CliProject> {
  const app = await createPackedApp();
  const dependencies = { '@mikro-orm/cli': '7.2.1', 'mikro-orm-plus': '0.1.0' };
  await app.write('package.json', JSON.stringify({ type, dependencies }));
  await app.write('tsconfig.json', JSON.stringify({ compilerOptions: { target: 'es2022', module: 'nodenext' } }));
  for (const [name, text] of Object.entries(files)) await app.write(name, text);

  const start = (bin: string, args: string[], env: Record<string, string> = {}): RunningCommand => {
    const { NO_COLOR: _, FORCE_COLOR: __, DATABASE_URL: ___, ...inherited } = process.env;
    const child = spawn(process.execPath, [join(app.folder, 'node_modules', bin), ...args], {
      cwd: app.folder,
      env: { ...inherited, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return follow(child);
  };
  const plus = 'mikro-orm-plus/dist/cli/main.js';
  const run: CliProject['run'] = (args, env) => start(plus, args, env).stop(undefined);
  return {
    app,
    run,
    mikroOrm: (args, env) => start('@mikro-orm/cli/cli.js', args, { ...env, NO_COLOR: '1' }).stop(undefined),
    start: (args, env) => start(plus, args, env),
    doctor: async (env, args = []) => {
      const { code, stdout, stderr } = await run(['doctor', '--json', ...args], env);
      if (!stdout.startsWith('{')) throw new Error(`doctor printed no JSON: ${stdout}${stderr}`);
      return { code, report: JSON.parse(stdout) as DoctorJson };
    },
    [Symbol.asyncDispose]: () => app[Symbol.asyncDispose](),
  };
}

function follow(child: ChildProcess): RunningCommand {
  let [stdout, stderr] = ['', ''];
  child.stdout!.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr!.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const closed = once(child, 'close') as Promise<[number | null]>;
  const stop = async (signal?: NodeJS.Signals): Promise<CliResult> => {
    if (signal) child.kill(signal);
    const [code] = await closed;
    return { code, stdout, stderr };
  };
  return {
    child,
    output: () => stdout,
    until: async (pattern) => {
      const deadline = Date.now() + PATIENCE_MS;
      while (!pattern.test(stdout)) {
        if (child.exitCode !== null || Date.now() > deadline) {
          throw new Error(`The output never matched ${pattern}: ${stdout}${stderr}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) await stop('SIGKILL');
    },
  };
}
