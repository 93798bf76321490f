import type { Row } from './context.js';

/** A row that shares nothing with the given one that could be changed. */
export function copyRow(row: Row): Row {
  const copy = { ...row };
  for (const [column, value] of Object.entries(row)) {
    if (typeof value === 'object' && value !== null) copy[column] = copyValue(value);
  }
  return copy;
}

/** Of what PostgreSQL's driver makes of a column: JSON, bytes, lists, and objects of its own such as intervals. */
function copyValue(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  if (value instanceof Date) return new Date(value);
  if (Array.isArray(value)) return value.map(copyValue);
  const copy = Object.create(Object.getPrototypeOf(value) as object | null) as Record<string, unknown>;
  for (const [name, item] of Object.entries(value)) {
    Object.defineProperty(copy, name, { value: copyValue(item), enumerable: true, writable: true, configurable: true });
  }
  return copy;
}
