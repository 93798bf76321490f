import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Stops a process with SIGSTOP and waits until it stands still, which takes time on a busy machine. */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  while (!(await standsStill(pid))) await sleep(5);
}

/** Whether a process has been stopped by a signal, or is gone. */
export async function standsStill(pid: number): Promise<boolean> {
  if (process.platform !== 'linux') return sleep(500, true);
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined);
  if (stat === undefined) return true;
  // "pid (name) state …"; the name may hold anything
  return ['T', 'Z', 'X'].includes(stat[stat.lastIndexOf(')') + 2]!);
}
