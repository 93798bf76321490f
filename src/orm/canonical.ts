/**
 * The canonical text of values in database form: the same for values that PostgreSQL would find equal within one
 * column whenever that can be told here, different for values that differ. Two texts that differ although the database
 * finds the values equal (`1.0` and `1.00`) cost a query, never a wrong answer: every match that is made from this text
 * is confirmed on the row itself.
 */
export function canonical(value: unknown): string {
  if (typeof value === 'string') return `s${value}`;
  if (value === null || value === undefined) return 'n';
  if (value instanceof Date) return `d${value.getTime()}`;
  if (ArrayBuffer.isView(value)) {
    return `b${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
  }
  if (Array.isArray(value)) return `a${sequence(value.map(canonical))}`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    entries.sort(([left], [right]) => (left < right ? -1 : 1));
    return `o${sequence(entries.flatMap(([key, item]) => [key, canonical(item)]))}`;
  }
  // numbers, bigints, booleans and strings of one column are compared by PostgreSQL after the same cast
  return `s${(value as string | number | bigint | boolean).toString()}`;
}

/** Whether two values have the same {@link canonical} text. */
export function isSame(left: unknown, right: unknown): boolean {
  return left === right || canonical(left) === canonical(right);
}

/** Joins texts so that no two different lists give the same text: each is preceded by its length. */
export function sequence(texts: readonly string[]): string {
  let joined = '';
  for (const text of texts) joined += `${text.length}:${text}`;
  return joined;
}

/** The {@link sequence} of the texts of items. */
export function sequenceOf<T>(items: readonly T[], textOf: (item: T) => string): string {
  let joined = '';
  for (const item of items) {
    const text = textOf(item);
    joined += `${text.length}:${text}`;
  }
  return joined;
}
