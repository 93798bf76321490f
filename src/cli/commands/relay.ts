import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { resolveRelay } from '../../config/relay-options.js';
import type { RelayMessage } from '../../observability/channels.js';
import { openRelay } from '../../open-relay.js';
import type { PlusSubscriber } from '../../PlusSubscriber.js';
import type { Call } from '../arguments.js';
import { requirePlus, type Project } from '../project.js';
import { errorText, print, style } from '../terminal.js';
import { untilStopped } from '../until-stopped.js';
import { withinTime } from '../within-time.js';

const CHANNEL = 'mikro-orm-plus:relay';

/** The relay's sockets don't keep a process alive. */
const KEEP_ALIVE_MS = 60_000;

const CONNECT_MS = 2_000;

/** Delivers changes made outside the ORM to the cache until SIGINT or SIGTERM. Exit code 1 when it can't ever work. */
export async function relay(project: Project, _call: Call): Promise<number> {
  const plus = requirePlus(project);
  const stopped = untilStopped();
  const failed = new AbortController();
  const listen = (message: unknown): void => {
    printMessage(message as RelayMessage);
    if (isEnd(message as RelayMessage)) failed.abort();
  };
  subscribe(CHANNEL, listen);
  const keepAlive = setInterval(() => undefined, KEEP_ALIVE_MS);
  // that the application's own processes have no relay is the reason to run this one
  await connectStores(plus);
  const running = openRelay(project.em, plus.relayOptions ?? resolveRelay(true)!, plus.regions);
  try {
    await Promise.race([running.start(), aborted(stopped)]);
    await Promise.race([aborted(stopped), aborted(failed.signal)]);
    return failed.signal.aborted ? 1 : 0;
  } finally {
    unsubscribe(CHANNEL, listen);
    await running.close();
    clearInterval(keepAlive);
    const { delivered } = running.status;
    printLine(`stopped, ${delivered} change${delivered === 1 ? '' : 's'} delivered`);
  }
}

/** A first connection may take longer than a delivery waits. What is down is told when there is something to deliver. */
async function connectStores({ regions }: PlusSubscriber): Promise<void> {
  const pings = regions.aliases.map(async (alias) => withinTime(CONNECT_MS, regions.storeOf(alias).store.ping()));
  await Promise.allSettled(pings);
}

/** Whether the relay has given up by itself. */
function isEnd(message: RelayMessage): boolean {
  return message.kind === 'role' && message.role === 'stopped';
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}

function printMessage(message: RelayMessage): void {
  switch (message.kind) {
    case 'role':
      return printLine(style(message.role === 'active' ? 'green' : 'yellow', message.role));
    case 'delivery':
      return printLine(
        `delivered ${message.changes} change${message.changes === 1 ? '' : 's'}, ${Math.round(message.lag)} ms after the oldest`,
      );
    case 'failure':
      return printLine(`${style('red', `${message.operation} failed:`)} ${errorText(message.error)}`);
  }
}

function printLine(text: string): void {
  print(`${style('dim', new Date().toISOString())} ${text}`);
}
