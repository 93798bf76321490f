import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive } from './is-alive.js';

interface Started {
  pids: number[];
  folders: string[];
}

describe('the servers of a test run that does not end well', () => {
  let scratch: string;
  beforeEach(async () => (scratch = await mkdtemp(join(tmpdir(), 'interrupted-'))));
  afterEach(() => rm(scratch, { recursive: true }));

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL'] as const)('are gone after %s', async (signal) => {
    const jest = startJest('hangs');
    const { pids, folders } = await startedBy(jest);
    expect(pids).toHaveLength(8);
    expect(pids.map(isAlive)).not.toContain(false);
    expect(folders.map((folder) => existsSync(folder))).toEqual([true, true]);

    jest.kill(signal);
    await once(jest, 'exit');

    await eventually(() => {
      expect(pids.filter(isAlive)).toEqual([]);
      expect(folders.filter((folder) => existsSync(folder))).toEqual([]);
    });
  });

  it('are gone after Ctrl-C, which reaches every process of the terminal', async () => {
    const jest = startJest('hangs', { detached: true });
    const { pids, folders } = await startedBy(jest);

    process.kill(-jest.pid!, 'SIGINT');
    await once(jest, 'exit');

    await eventually(() => {
      expect(pids.filter(isAlive)).toEqual([]);
      expect(folders.filter((folder) => existsSync(folder))).toEqual([]);
    });
  });

  it('are gone when the run ends with failed tests', async () => {
    const jest = startJest('fails');
    const { pids, folders } = await startedBy(jest);
    const [exitCode] = await once(jest, 'exit');

    expect(exitCode).toBe(1);
    expect(pids.filter(isAlive)).toEqual([]);
    expect(folders.filter((folder) => existsSync(folder))).toEqual([]);
  });

  function startJest(fixture: string, options: { detached?: boolean } = {}): ChildProcess {
    const { TEST_DATABASE_URL: _database, TEST_REDIS_URL: _redis, ...env } = process.env;
    const jest = resolve('node_modules/jest/bin/jest.js');
    const config = resolve('tests/harness/interrupted/jest.config.js');
    return spawn(
      process.execPath,
      ['--experimental-vm-modules', jest, '--config', config, `interrupted/(${fixture}|other)`],
      { ...options, env: { ...env, STARTED_FILE: join(scratch, 'started.json') }, stdio: 'ignore' },
    );
  }

  async function startedBy(jest: ChildProcess): Promise<Started> {
    const file = join(scratch, 'started.json');
    for (;;) {
      const text = await readFile(file, 'utf8').catch(() => '');
      if (text.endsWith('}')) {
        return JSON.parse(text) as Started;
      }
      if (jest.exitCode !== null) {
        throw new Error(`Jest ended early with exit code ${jest.exitCode}`);
      }
      await sleep(50);
    }
  }
});

async function eventually(check: () => void): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    try {
      return check();
    } catch (error) {
      if (Date.now() > deadline) {
        throw error;
      }
      await sleep(100);
    }
  }
}
