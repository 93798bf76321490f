import type { Client } from 'pg';

/** The log table, and the triggers of tables, written out as the contract between triggers and relay says. */
export async function installChangeLog(client: Client, tables: readonly string[], keys = ['id']): Promise<void> {
  await client.query(`create table if not exists plus_change_log (
    id bigint generated always as identity primary key, table_schema text not null, table_name text not null,
    keys jsonb, created_at timestamptz not null default clock_timestamp())`);
  for (const table of tables) for (const statement of triggers(table, keys)) await client.query(statement);
}

function triggers(table: string, keys: readonly string[]): string[] {
  const key = keys.map((column) => `'${column}', t."${column}"`).join(', ');
  const log = (select: string): string => `
    insert into plus_change_log (table_schema, table_name, keys) values (tg_table_schema, tg_table_name, ${select});
    payload := jsonb_build_object('s', tg_table_schema, 't', tg_table_name, 'k', ${select})::text;
    if octet_length(payload) >= 7500 or ${select} is null then
      payload := jsonb_build_object('s', tg_table_schema, 't', tg_table_name)::text;
    end if;
    perform pg_notify('plus_change', payload);`;
  const define = (event: string, body: string, referencing: string): string[] => [
    `create or replace function "${table}_plus_v1_${event}_fn"() returns trigger as $plus$
     declare k jsonb; chunk jsonb; payload text;
     begin ${body} return null; end; $plus$ language plpgsql`,
    `create or replace trigger plus_v1_${event} after ${event} on "${table}" ${referencing}
     for each statement execute function "${table}_plus_v1_${event}_fn"()`,
  ];
  const rows = `
    for chunk in select jsonb_agg(r.k) from (
      select jsonb_build_object(${key}) as k, (row_number() over () - 1) / 1000 as part from changed t
    ) r group by r.part loop ${log('chunk')} end loop;`;
  return [
    ...define('update', rows, 'referencing old table as changed'),
    ...define('delete', rows, 'referencing old table as changed'),
    ...define('truncate', log('k'), ''),
  ];
}
