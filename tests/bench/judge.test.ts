import { judge, type Judged, type Target } from '../../bench/src/judge.js';

const target: Target = {
  path: 'a hit',
  scenario: 'hit',
  subject: 'ours',
  against: 'floor',
  metric: 'throughput',
  bound: { atLeast: 0.5 },
};

function measured(contender: string, throughput: number, more: Partial<Judged> = {}): Judged {
  const series = { throughputs: [throughput, throughput, throughput], p99s: [1, 1, 1] };
  return { scenario: 'hit', contender, callers: 1, throughput, errors: 0, ...series, ...more };
}

const roleOf = (contender: string): string =>
  contender === 'ours' ? 'subject' : contender === 'floor' ? 'floor' : 'peer';

describe('a target', () => {
  it('is met at its bound, and missed below', () => {
    expect(judge([measured('ours', 50), measured('floor', 100)], [target], roleOf)).toMatchObject([
      { measured: 0.5, met: true },
    ]);
    expect(judge([measured('ours', 49), measured('floor', 100)], [target], roleOf)).toMatchObject([
      { measured: 0.49, met: false },
    ]);
  });

  it('is decided by its worst number of callers', () => {
    const [verdict] = judge(
      [
        measured('ours', 90),
        measured('floor', 100),
        measured('ours', 10, { callers: 64 }),
        measured('floor', 100, { callers: 64 }),
      ],
      [target],
      roleOf,
    );
    expect(verdict).toMatchObject({ measured: 0.1, met: false });
    expect(verdict!.values.map(({ callers }) => callers)).toEqual([1, 64]);
  });

  it('looks only at the numbers of callers that it names', () => {
    const measurements = [1, 64].flatMap((callers) => [
      measured('ours', callers === 1 ? 10 : 90, { callers }),
      measured('floor', 100, { callers }),
    ]);
    expect(judge(measurements, [{ ...target, callers: [64] }], roleOf)).toMatchObject([{ measured: 0.9, met: true }]);
  });

  it('against the best peer takes the fastest one, and no floor', () => {
    const measurements = [
      measured('ours', 100),
      measured('floor', 1_000),
      measured('slow peer', 20),
      measured('fast peer', 80),
    ];
    const [verdict] = judge(measurements, [{ ...target, against: 'best peer' }], roleOf);
    expect(verdict!.values).toEqual([{ callers: 1, value: 1.25, against: 'fast peer' }]);
  });

  it('may be a latency that has to be low', () => {
    const measurements = [measured('ours', 1, { p99s: [3, 3, 3] }), measured('floor', 1, { p99s: [4, 4, 4] })];
    const latency: Target = { ...target, metric: 'p99', bound: { atMost: 0.5 } };
    expect(judge(measurements, [latency], roleOf)).toMatchObject([{ measured: 0.75, met: false }]);
  });

  it('may be that no call fails', () => {
    const failures: Target = { ...target, metric: 'errors', bound: { atMost: 0 } };
    const measurements = [measured('ours', 1, { errors: 1 }), measured('floor', 1)];
    expect(judge(measurements, [failures], roleOf)).toMatchObject([{ measured: 1, met: false }]);
  });

  it('isn’t judged when its scenario was not measured', () => {
    expect(judge([], [target], roleOf)).toEqual([]);
  });
});
