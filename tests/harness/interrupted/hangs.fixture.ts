import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProcesses } from '../processes.js';
import { startServers, testDatabaseUrl, testRun } from '../servers.js';
import type sleepWorker from './sleep.worker.js';

/** Writes down which processes and folders it has started, and then hangs. */
it('hangs', async () => {
  const own = await startServers({ redis: true });
  const group = await startProcesses<typeof sleepWorker>(new URL('./sleep.worker.ts', import.meta.url), {
    count: 2,
    init: { url: await testDatabaseUrl() },
  });
  const { pids, folder } = testRun();
  writeFileSync(
    process.env.STARTED_FILE!,
    JSON.stringify({
      pids: [...Object.values(pids), own.keeperPid, own.redis!.pid, ...group.pids, process.pid],
      folders: [folder, own.folder],
    }),
  );
  await group.round(() => null);
  await sleep(3_600_000);
}, 3_600_000);
