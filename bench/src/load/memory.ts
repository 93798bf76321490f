import { readFileSync, writeFileSync } from 'node:fs';

/** Whether Linux resets the peak on request; elsewhere it is that of the process's whole life. */
let resettable = process.platform === 'linux';

/** Lets {@link peakMemory} start anew. */
export function resetPeakMemory(): void {
  if (!resettable) return;
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    resettable = false;
  }
}

/** The highest resident set size since {@link resetPeakMemory}, in bytes. */
export function peakMemory(): number {
  if (resettable) {
    const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    if (kilobytes) return Number(kilobytes) * 1_024;
  }
  return process.resourceUsage().maxRSS * 1_024;
}

/** What is alive on the heap, in bytes; the process must run with `--expose-gc`. */
export function heapAfterCollection(): number {
  for (let pass = 0; pass < 3; pass += 1) globalThis.gc!();
  return process.memoryUsage().heapUsed;
}
