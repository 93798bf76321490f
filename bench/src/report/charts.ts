import * as echarts from 'echarts';
import { contenders, type ContenderName } from '../contenders/index.js';
import type { Curve } from '../growth.js';
import type { Measurement } from '../measure.js';
import type { Scenario } from '../scenarios.js';

const WIDTH = 900;
const FONT = { fontFamily: 'sans-serif' };

/** Bars of a scenario's throughput: a group per contender, a bar per number of callers. */
export function scenarioChart(scenario: Scenario, measurements: readonly Measurement[]): string {
  const own = measurements.filter(({ scenario: id }) => id === scenario.id);
  const callerCounts = [...new Set(own.map(({ callers }) => callers))].toSorted((a, b) => a - b);
  const best = (contender: ContenderName): number =>
    Math.max(...own.filter((measurement) => measurement.contender === contender).map(({ throughput }) => throughput));
  // a category axis begins at the bottom
  const names = [...new Set(own.map(({ contender }) => contender))].toSorted((a, b) => best(a) - best(b));
  const value = (contender: ContenderName, callers: number): number | null =>
    own.find((measurement) => measurement.contender === contender && measurement.callers === callers)?.throughput ??
    null;
  return draw(120 + names.length * (16 + 14 * callerCounts.length), {
    title: title(scenario.title),
    legend: { top: 36, itemGap: 30, textStyle: FONT },
    // without a browser the width of the names can only be guessed
    grid: { top: 70, bottom: 45, left: 400, right: 40, containLabel: false },
    xAxis: { type: 'log', name: 'names per second', nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: 'category', data: names.map((name) => contenders[name].title), axisLabel: FONT },
    series: callerCounts.map((callers) => ({
      type: 'bar' as const,
      name: callers === 1 ? '1 caller' : `${callers} callers`,
      data: names.map((name) => value(name, callers)),
    })),
  });
}

/** Lines of a growth curve, over a logarithmic axis. */
export function curveChart(curve: Curve): string {
  return draw(420, {
    title: title(curve.title),
    legend: { top: 36, itemGap: 30, textStyle: FONT },
    grid: { top: 90, bottom: 50, left: 60, right: 40, containLabel: true },
    xAxis: { type: 'log', name: curve.x, nameLocation: 'middle', nameGap: 30 },
    yAxis: { type: 'value', name: curve.y, min: 0 },
    series: curve.series.map(({ name, points }) => ({
      type: 'line' as const,
      name,
      symbol: 'circle',
      data: points.map(([x, y]) => [x, y]),
    })),
  });
}

function title(text: string): object {
  return { text, left: 'center', textStyle: { ...FONT, fontSize: 16 } };
}

function draw(height: number, option: echarts.EChartsCoreOption): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  chart.setOption({ animation: false, backgroundColor: '#ffffff', ...option });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${svg}\n`;
}
