import { setTimeout as sleep } from 'node:timers/promises';
import { rawClient } from '../servers.js';
import { defineWorker } from '../worker.js';

export default defineWorker(async (init: { url: string }) => {
  const client = await rawClient(init.url);
  return {
    async round() {
      await client.query('select pg_sleep(3600)');
      await sleep(3_600_000);
    },
  };
});
