import fc from 'fast-check';
import { canonical, isSame, sequence } from '../../src/orm/canonical.js';

/** Values as the driver and MikroORM's comparator have them, of one kind of column each. */
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.constant(null),
    fc.string(),
    fc.date({ noInvalidDate: true }),
    fc.uint8Array({ maxLength: 8 }),
    fc.array(tie('any'), { maxLength: 3 }),
    fc.dictionary(fc.string(), tie('any'), { maxKeys: 3, noNullPrototype: true }),
  ),
})).any;

/** Spells a value out, for comparison: by type and content. */
function spell(given: unknown): unknown {
  if (given === null || given === undefined) return null;
  if (given instanceof Date) return ['date', given.toISOString()];
  if (ArrayBuffer.isView(given)) return ['bytes', [...(given as Uint8Array)]];
  if (Array.isArray(given)) return ['array', given.map(spell)];
  if (typeof given === 'object') {
    const entries = Object.entries(given).toSorted(([left], [right]) => (left < right ? -1 : 1));
    return ['object', entries.map(([key, item]) => [key, spell(item)])];
  }
  return ['text', (given as string | number | bigint | boolean).toString()];
}

describe('canonical text', () => {
  it('is the same exactly for the same value', () => {
    fc.assert(
      fc.property(value, value, (left, right) => {
        expect(canonical(left) === canonical(right)).toBe(JSON.stringify(spell(left)) === JSON.stringify(spell(right)));
      }),
      { numRuns: 2_000, seed: 7 },
    );
  });

  it('tells whether values are the same', () => {
    const scalar = fc.oneof(fc.constantFrom(null, undefined, 1, '1', 1n, true, 'true', Number.NaN, 'n', ''), value);
    fc.assert(
      fc.property(scalar, scalar, (left, right) => {
        expect(isSame(left, right)).toBe(canonical(left) === canonical(right));
        expect(isSame(left, left)).toBe(true);
      }),
      { numRuns: 2_000, seed: 7 },
    );
  });

  it('does not depend on the order of keys, nor on undefined ones', () => {
    expect(canonical({ a: 1, b: [2], c: undefined })).toBe(canonical({ b: [2], a: 1 }));
    expect(canonical({ a: 1 })).not.toBe(canonical({ a: '1', b: null }));
  });

  it('is the same for what one column compares after one cast', () => {
    expect(new Set([1, 1n, '1'].map(canonical)).size).toBe(1);
    expect(canonical(true)).toBe(canonical('true'));
    expect(canonical(undefined)).toBe(canonical(null));
    expect(canonical(Buffer.from([1]))).toBe(canonical(new Uint8Array([1])));
  });
});

describe('a sequence', () => {
  it('is the same exactly for the same list of texts', () => {
    const tricky = fc.oneof(fc.string(), fc.constantFrom('', '1:', ':', '0:', '1:a', '2:1:', '12:', '\0', 'é', '😀'));
    const list = fc.array(tricky, { maxLength: 5 });
    fc.assert(
      fc.property(list, list, (left, right) => {
        expect(sequence(left) === sequence(right)).toBe(JSON.stringify(left) === JSON.stringify(right));
      }),
      { numRuns: 3_000, seed: 7 },
    );
  });

  it('can be taken apart again', () => {
    const takeApart = (text: string): string[] => {
      const parts: string[] = [];
      for (let at = 0; at < text.length;) {
        const colon = text.indexOf(':', at);
        const end = colon + 1 + Number(text.slice(at, colon));
        parts.push(text.slice(colon + 1, end));
        at = end;
      }
      return parts;
    };
    fc.assert(
      fc.property(fc.array(fc.string()), (list) => {
        expect(takeApart(sequence(list))).toEqual(list);
      }),
      { seed: 7 },
    );
  });
});
