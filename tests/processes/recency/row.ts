import { defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo } from '../../../src/index.js';

/** A row with a version that only grows: each write takes a new number of one sequence. */
export const Row = withPlusRepo(
  defineEntity({
    name: 'Row',
    tableName: 'checked_row',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      version: p.integer().defaultRaw("nextval('checked_version')"),
    },
  }),
);

export const rowName = (index: number): string => `row-${index}`;

/**
 * A write of an older number that comes later changes nothing, so "at least this version" is true from the commit on.
 * Settings of the transaction let its COMMIT take time, or fail, in a deferred trigger.
 */
export const schemaSql = `
create sequence checked_version as integer;
create table checked_row (
  id integer generated always as identity primary key,
  name text not null unique,
  version integer not null default nextval('checked_version')
);
create function checked_row_grows() returns trigger language plpgsql as $$
begin
  new.version := greatest(new.version, old.version);
  return new;
end $$;
create trigger checked_row_grows before update on checked_row for each row execute function checked_row_grows();
create function checked_row_commits() returns trigger language plpgsql as $$
begin
  perform pg_sleep(coalesce(nullif(current_setting('checked.slow_commit', true), ''), '0')::float / 1000);
  if current_setting('checked.fail_commit', true) = 'on' then
    raise exception 'the commit is meant to fail';
  end if;
  return null;
end $$;
create constraint trigger checked_row_commits after update on checked_row
  deferrable initially deferred for each row execute function checked_row_commits();
`;
