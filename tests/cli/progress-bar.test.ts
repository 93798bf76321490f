import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { ProgressBar, type BarStream } from '../../src/cli/progress-bar.js';

/** The cursor at the start of an empty line. */
const CLEARED = '\u001B[1G\u001B[2K';

/** A terminal, and what was sent to it. */
function terminal(isTTY: boolean): { stream: BarStream; sent: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 80, rows: 24 });
  return { stream, sent: () => String(stream.read() ?? '') };
}

it('shows how far the work is on a terminal, and clears its line at the end', () => {
  const { stream, sent } = terminal(true);
  {
    using bar = new ProgressBar('evicting', stream);
    bar.update({ done: 0, total: 4 });
    expect(stripVTControlCharacters(sent())).toContain(`evicting  ${'░'.repeat(30)}  0 of 4`);
    bar.update({ done: 2, total: 4 });
    bar.update({ done: 4, total: 4 });
  }
  const end = sent();
  expect(stripVTControlCharacters(end)).toContain(`${'█'.repeat(30)}  4 of 4`);
  expect(end.endsWith(CLEARED)).toBe(true);
});

it('gives way to lines that are printed, and comes back', () => {
  const { stream, sent } = terminal(true);
  using bar = new ProgressBar('evicting', stream);
  bar.update({ done: 1, total: 2 });
  sent();
  let before = '';
  bar.interrupt(() => {
    before = sent();
    stream.write('Tag: all rows removed\n');
  });
  expect(before.endsWith(CLEARED)).toBe(true);
  expect(stripVTControlCharacters(sent())).toMatch(/^Tag: all rows removed\n.*1 of 2/s);
});

it('shows nothing where there is no terminal', () => {
  const { stream, sent } = terminal(false);
  {
    using bar = new ProgressBar('evicting', stream);
    expect(bar.isShown).toBe(false);
    bar.update({ done: 1, total: 2 });
    bar.interrupt(() => undefined);
  }
  expect(sent()).toBe('');
});

it('leaves signals alone', () => {
  const before = process.listenerCount('SIGINT');
  using bar = new ProgressBar('evicting', terminal(true).stream);
  bar.update({ done: 1, total: 2 });
  expect(process.listenerCount('SIGINT')).toBe(before);
});
