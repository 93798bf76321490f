import { writeFileSync } from 'node:fs';
import { testRun } from '../servers.js';

it('fails', () => {
  const { pids, folder } = testRun();
  writeFileSync(process.env.STARTED_FILE!, JSON.stringify({ pids: Object.values(pids), folders: [folder] }));
  expect('this').toBe('that');
});
