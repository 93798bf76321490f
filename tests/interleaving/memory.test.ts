import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Report } from './explore.js';
import { sound } from './scenarios.js';
import { typescriptArgs } from '../harness/typescript-args.js';

type Line = Omit<Report, 'interleavings'> & { readonly name: string; readonly interleavings: string };

describe('every order of single steps, over the memory store', () => {
  const reports = new Map<string, Line>();

  beforeAll(async () => {
    const program = fileURLToPath(new URL('./memory.fixture.ts', import.meta.url));
    const child = spawn(process.execPath, [...typescriptArgs, program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    try {
      for await (const text of createInterface({ input: child.stdout })) {
        const line = JSON.parse(text) as Line;
        reports.set(line.name, line);
      }
      expect(await ended).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
    // half a minute of one core, of which a busy machine may give little
  }, 900_000);

  it.each(Object.keys(sound))('%s', (name) => {
    expect(reports.get(name)!.violation).toBeUndefined();
  });

  // a change of the scenarios or the explorer must not quietly leave most of the orders out
  it('are a great many', () => {
    const all = [...reports.values()];
    const sum = (count: (line: Line) => number): number => all.reduce((total, line) => total + count(line), 0);
    expect(all).toHaveLength(Object.keys(sound).length);
    expect(sum(({ states }) => states)).toBeGreaterThan(80_000);
    expect(sum(({ transitions }) => transitions)).toBeGreaterThan(250_000);
    expect(sum(({ interleavings }) => Number(interleavings))).toBeGreaterThan(1_000_000_000);
  });
});
