import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { changeLogUp, triggersUp } from '../../src/migrations.js';
import { createDatabase, rawClient } from '../harness/servers.js';
import { takeLog } from './support/log.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const DATABASE = [
  `create table tag (id int primary key, name text, n int)`,
  `create table "Two keys" (a int, b text, primary key (a, b))`,
  ...changeLogUp(),
  ...triggersUp({ table: 'tag', primaryKey: ['id'] }),
  ...triggersUp({ table: 'Two keys', primaryKey: ['a', 'b'] }),
  `insert into tag values (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)`,
  `insert into "Two keys" values (1, 'x')`,
  `update tag set n = 1 where id = 3`,
];

/** What pg_dump writes of a database: in a process of its own, since it leaves something open. */
async function dumpOf(statements: readonly string[]): Promise<string> {
  const script = fileURLToPath(new URL('support/pg-dump.worker.ts', import.meta.url));
  const child = spawn(process.execPath, [...typescriptArgs, script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  child.stdin.end(statements.join(';\n'));
  const dump = await text(child.stdout);
  expect(await ended).toEqual([0, null]);
  return dump;
}

test('a restored dump has the triggers and what was logged, and restoring it logs nothing more', async () => {
  const dump = await dumpOf(DATABASE);
  expect(dump).toMatch(/Dumped by pg_dump version 18/);
  const url = await createDatabase('restored');
  const restoring = await rawClient(url);
  // what begins with a backslash is for psql
  await restoring.query(dump.replaceAll(/^\\.*$/gm, ''));
  await restoring.end();

  const client = await rawClient(url);
  try {
    const { rows } = await client.query(`select id, n from tag order by id`);
    expect(rows).toEqual([
      { id: 1, n: 0 },
      { id: 2, n: 0 },
      { id: 3, n: 1 },
    ]);
    expect(await takeLog(client)).toEqual([['public.tag', [{ id: 3 }]]]);
    // also in sessions that turn ordinary triggers off
    await client.query(`set session_replication_role = replica`);
    await client.query(`update tag set n = 2 where id < 3; delete from "Two keys"; truncate tag`);
    expect(await takeLog(client)).toEqual([
      ['public.tag', [{ id: 1 }, { id: 2 }]],
      ['public.Two keys', [{ a: 1, b: 'x' }]],
      ['public.tag', 'any'],
    ]);
  } finally {
    await client.end();
  }
}, 300_000);
