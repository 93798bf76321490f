import { styleText } from 'node:util';

type Style = 'red' | 'yellow' | 'green' | 'cyan' | 'bold' | 'dim';

/** Colours text when standard output is a terminal that wants colours (`NO_COLOR`, `FORCE_COLOR`). */
export function style(format: Style | Style[], text: string): string {
  return styleText(format, text, { stream: process.stdout });
}

/** Writes one or more lines to standard output. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Writes an error to standard error, without its stack unless `DEBUG` is set. */
export function printError(error: unknown): void {
  const message = errorText(error);
  process.stderr.write(`${styleText('red', 'error', { stream: process.stderr })} ${message}\n`);
  if (process.env.DEBUG && error instanceof Error) process.stderr.write(`${withoutPasswords(error.stack ?? '')}\n`);
}

/** The message of an error; those of its parts when it has none of its own, as a refused connection has. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return withoutPasswords(String(error));
  // what ioredis says instead tells of its options
  if (error.name === 'MaxRetriesPerRequestError') return 'the connection was refused, or lost';
  const own =
    error.message !== '' || !(error instanceof AggregateError) ? error.message : error.errors.map(errorText).join('; ');
  const text = own === '' ? ((error as NodeJS.ErrnoException).code ?? error.name) : own;
  return withoutPasswords(text);
}

/** Takes the passwords out of URLs. */
function withoutPasswords(text: string): string {
  return text.replaceAll(/(\w:\/\/[^\s:/@]*):[^\s/@]+@/g, '$1:***@');
}

/** Lines of columns; numbers are put to the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)));
  const widths = head.map((title, at) => Math.max(title.length, ...cells.map((row) => row[at]!.length)));
  const isNumber = head.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === 'number'));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => (isNumber[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!)))
      .join('  ')
      .trimEnd();
  return [style('dim', line(head)), ...cells.map(line)].join('\n');
}
