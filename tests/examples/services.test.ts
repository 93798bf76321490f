import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { createPackedApp, type PackedApp } from '../harness/packed-app.js';
import { createDatabase, dropDatabase, rawClient, testRedisUrl } from '../harness/servers.js';

const examples = resolve(import.meta.dirname, '../../examples');
const PARALLEL = 50;
/** Packing, compiling and starting take long on a busy machine. */
const LIMIT_MS = 300_000;

let app: PackedApp | undefined;
beforeAll(async () => {
  app = await createPackedApp();
}, LIMIT_MS);
afterAll(() => app?.[Symbol.asyncDispose]());

interface Service extends AsyncDisposable {
  url: string;
  /** Ends it as a service manager does; the exit code. */
  stop: () => Promise<number | null>;
}

/** Compiles an example against the packed library, as its users would, and starts it. */
async function startExample(name: string, env: Record<string, string>): Promise<Service> {
  const folder = join(app!.folder, name);
  await cp(join(examples, name), folder, { recursive: true, filter: (path) => !/node_modules|dist$/.test(path) });
  expect(await app!.build(name)).toBe('');
  const child = spawn(process.execPath, ['dist/main.js'], {
    cwd: folder,
    env: { ...process.env, ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return {
    url: await listeningUrl(child),
    stop: () => end(child),
    [Symbol.asyncDispose]: async () => void (await end(child)),
  };
}

async function listeningUrl(child: ChildProcess): Promise<string> {
  for await (const line of createInterface(child.stdout!)) {
    const url = /^listening on (\S+)$/.exec(line)?.[1];
    if (url) return url;
  }
  throw new Error('The example ended before it listened.');
}

async function end(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }
  return child.exitCode;
}

interface Answer {
  id: number;
  name: string;
  created: boolean;
}

async function put(service: Service, name: string): Promise<Answer> {
  const response = await fetch(`${service.url}/tags/${name}`, { method: 'PUT' });
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

describe.each(['nestjs', 'fastify'])('the %s example', (name) => {
  it(
    'creates a new key once under parallel requests, tells its health, and ends cleanly',
    async () => {
      const url = await createDatabase(name);
      try {
        await using service = await startExample(name, { DATABASE_URL: url, REDIS_URL: testRedisUrl() });
        const answers = await Promise.all(Array.from({ length: PARALLEL }, () => put(service, 'new')));
        expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
        expect(answers.filter(({ created }) => created)).toHaveLength(1);
        expect(await put(service, 'new')).toEqual({ id: answers[0]!.id, name: 'new', created: false });
        expect((await put(service, 'other')).created).toBe(true);

        const client = await rawClient(url);
        const { rows } = await client.query<{ name: string }>('select name from tag order by name');
        await client.end();
        expect(rows.map((row) => row.name)).toEqual(['new', 'other']);

        const health = await fetch(`${service.url}/health`);
        expect(health.status).toBe(200);
        await expect(health.json()).resolves.toMatchObject({ status: 'ok' });
        expect([0, null]).toContain(await service.stop());
      } finally {
        await dropDatabase(url);
      }
    },
    LIMIT_MS,
  );
});
