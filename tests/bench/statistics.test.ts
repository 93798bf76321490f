import { Random, Zipf } from '../../bench/src/load/random.js';
import { median, pairedRatio, percentile } from '../../bench/src/statistics.js';

describe('median', () => {
  it('is the middle value, whatever the order', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([10, 9, 100])).toBe(10);
  });

  it('is the mean of the two in the middle when there is no middle one', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  it('isn’t a number when there is nothing', () => {
    expect(median([])).toBeNaN();
  });
});

describe('percentile', () => {
  const hundred = Array.from({ length: 100 }, (_value, index) => index + 1);

  it('is a value that was measured', () => {
    expect(percentile(hundred, 50)).toBe(50);
    expect(percentile(hundred, 99)).toBe(99);
    expect(percentile(hundred, 100)).toBe(100);
    expect(percentile([1, 2, 3], 50)).toBe(2);
  });

  it('is the largest of few values, for a high one', () => {
    expect(percentile([1, 2, 3], 99)).toBe(3);
    expect(percentile([7], 1)).toBe(7);
  });

  it('isn’t a number when there is nothing', () => {
    expect(percentile([], 50)).toBeNaN();
  });
});

describe('paired ratio', () => {
  it('compares within rounds, so that a round that was slow for both changes nothing', () => {
    expect(pairedRatio([100, 10, 100], [50, 5, 50])).toBe(2);
  });
});

describe('random numbers', () => {
  it('are the same for the same seed', () => {
    const draw = (seed: number) => {
      const random = new Random(seed);
      return Array.from({ length: 5 }, () => random.whole(1_000));
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  it('of a Zipf distribution ask for a rank in proportion to its inverse', () => {
    const zipf = new Zipf(1_000);
    const random = new Random(1);
    const counts = new Map<number, number>();
    for (let draw = 0; draw < 100_000; draw += 1) {
      const rank = zipf.rank(random);
      counts.set(rank, (counts.get(rank) ?? 0) + 1);
    }
    expect(Math.min(...counts.keys())).toBe(1);
    expect(Math.max(...counts.keys())).toBeLessThanOrEqual(1_000);
    expect(counts.get(1)! / counts.get(2)!).toBeCloseTo(2, 0);
    expect(counts.get(1)! / counts.get(10)!).toBeGreaterThan(8);
    expect(counts.get(1)! / counts.get(10)!).toBeLessThan(12);
  });
});
