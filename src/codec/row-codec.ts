import { crc32 } from 'node:zlib';
import type { Row } from '../orm/context.js';

/** Changes whenever bytes written before could be misread; golden files hold it in place. */
const FORMAT = '1';

/** What a stored row must belong to, to be believed. */
export interface RowIdentity {
  /** The key of its entry. */
  readonly key: string;
  /** The fingerprint of the columns. */
  readonly fingerprint: string;
}

/**
 * A row as text: format, fingerprint and checksum, then its columns as JSON. The checksum covers the key, so a value
 * that was moved to another key isn't believed.
 *
 * @returns `undefined` for a row that JSON can't give back as it was (a number that isn't finite, a driver's own object)
 */
export function encodeRow(row: Row, columns: readonly string[], identity: RowIdentity): string | undefined {
  const values: unknown[] = [];
  const binary: number[] = [];
  for (const [index, column] of columns.entries()) {
    const value = row[column];
    if (Buffer.isBuffer(value)) binary.push(index);
    else if (!isJson(value)) return undefined;
    values.push(Buffer.isBuffer(value) ? value.toString('base64') : value);
  }
  const json = JSON.stringify(binary.length > 0 ? [values, binary] : [values]);
  return `${FORMAT} ${identity.fingerprint} ${checksum(json, identity)} ${json}`;
}

/** What {@link encodeRow} wrote, checked, so that rows can be made of it again and again. */
export interface CheckedRow {
  readonly json: string;
  /** The values, if none of them is an object that one row's owner could change for the next. */
  readonly shared: readonly unknown[] | undefined;
}

/** The row that {@link encodeRow} wrote; `undefined` for anything else, whoever wrote it. */
export function decodeRow(text: string, columns: readonly string[], identity: RowIdentity): Row | undefined {
  const json = checkedJson(text, identity);
  return json === undefined ? undefined : parseRow(json, columns);
}

/** Checks what is to be decoded many times. */
export function checkRow(text: string, columns: readonly string[], identity: RowIdentity): CheckedRow | undefined {
  const json = checkedJson(text, identity);
  const row = json === undefined ? undefined : parseRow(json, columns);
  if (!row) return undefined;
  const values = columns.map((column) => row[column]);
  const isFlat = values.every((value) => typeof value !== 'object' || value === null);
  return { json: json!, shared: isFlat ? values : undefined };
}

/** A row of its own for whoever asks. */
export function rowOf({ json, shared }: CheckedRow, columns: readonly string[]): Row {
  return shared ? byColumn(shared, columns) : parseRow(json, columns)!;
}

function checkedJson(text: string, identity: RowIdentity): string | undefined {
  const head = `${FORMAT} ${identity.fingerprint} `;
  if (!text.startsWith(head)) return undefined;
  const end = text.indexOf(' ', head.length);
  if (end < 0) return undefined;
  const json = text.slice(end + 1);
  return text.slice(head.length, end) === checksum(json, identity) ? json : undefined;
}

function parseRow(json: string, columns: readonly string[]): Row | undefined {
  try {
    return toRow(JSON.parse(json), columns);
  } catch {
    return undefined;
  }
}

function toRow(decoded: unknown, columns: readonly string[]): Row | undefined {
  if (!Array.isArray(decoded)) return undefined;
  const [values, binary = []] = decoded as [unknown, unknown?];
  if (!Array.isArray(values) || values.length !== columns.length || !Array.isArray(binary)) return undefined;
  const row = byColumn(values, columns);
  for (const index of binary as unknown[]) {
    const column = columns[index as number];
    if (column === undefined || typeof row[column] !== 'string') return undefined;
    row[column] = Buffer.from(row[column], 'base64');
  }
  return row;
}

function byColumn(values: readonly unknown[], columns: readonly string[]): Row {
  // assigned, that name would set the prototype
  if (columns.includes('__proto__')) return Object.fromEntries(columns.map((column, index) => [column, values[index]]));
  const row: Row = {};
  for (let index = 0; index < columns.length; index += 1) row[columns[index]!] = values[index];
  return row;
}

function checksum(json: string, { key, fingerprint }: RowIdentity): string {
  return crc32(`${key} ${fingerprint} ${json}`).toString(36);
}

/** Whether JSON gives a value back as it was. */
function isJson(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed();
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0);
    case 'object':
      if (value === null) return true;
      if (Array.isArray(value)) return value.every(isJson);
      return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isJson);
    default:
      return false;
  }
}
