import { BEGIN, END, figure, markdownTable, plainTable, replaceSection } from '../../bench/src/report/markdown.js';
import { parseSettings } from '../../bench/src/settings.js';

describe('tables', () => {
  const header = ['contender', 'per s'];
  const rows = [
    ['ours', '12,300'],
    ['a | b', '9'],
  ];

  it('are Markdown with numbers to the right', () => {
    expect(markdownTable(header, rows)).toBe(
      ['| contender | per s |', '| --- | --: |', '| ours | 12,300 |', '| a \\| b | 9 |'].join('\n'),
    );
  });

  it('are aligned for a terminal', () => {
    expect(plainTable(header, rows)).toBe(
      ['contender   per s', '---------  ------', 'ours       12,300', 'a | b           9'].join('\n'),
    );
  });

  it.each([
    [0, '0'],
    [0.001234, '0.00123'],
    [0.5, '0.5'],
    [12.345, '12.3'],
    [999.6, '1,000'],
    [12_345, '12,300'],
    [NaN, '-'],
  ])('show %p as %s', (value, text) => {
    expect(figure(value)).toBe(text);
  });
});

describe('the page', () => {
  it('keeps what people wrote around the results', () => {
    const page = `# Title\n\n${BEGIN}\n\nold\n\n${END}\n\nby hand\n`;
    const written = replaceSection(page, 'new');
    expect(written).toBe(`# Title\n\n${BEGIN}\n\nnew\n\n${END}\n\nby hand\n`);
    expect(replaceSection(written, 'new')).toBe(written);
  });

  it('must have the markers', () => {
    expect(() => replaceSection('# Title', 'new')).toThrow(/must have the lines/);
  });
});

describe('settings', () => {
  it('of a run that isn’t whole leave the results of one alone', () => {
    expect(parseSettings([])).toMatchObject({ quick: false, output: 'docs/benchmarks' });
    expect(parseSettings(['--quick'])).toMatchObject({ quick: true, output: 'docs/benchmarks/quick' });
    expect(parseSettings(['--only', 'race,bulk'])).toMatchObject({
      only: ['race', 'bulk'],
      output: 'docs/benchmarks/quick',
    });
  });

  it('of a whole run have at least 5 rounds', () => {
    expect((parseSettings([]) as { rounds: number }).rounds).toBeGreaterThanOrEqual(5);
  });

  it('that make no sense are refused', () => {
    expect(() => parseSettings(['--rounds', '0'])).toThrow(/whole number/);
    expect(() => parseSettings(['--fast'])).toThrow(/fast/);
  });
});
