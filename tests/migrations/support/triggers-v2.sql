create or replace function "tag_plus_v2_update_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ begin
  if tg_nargs > 0 then
    insert into "public"."plus_change_log" (table_schema, table_name, keys)
      select tg_table_schema, tg_table_name, a.keys::jsonb
      from (select pg_catalog.json_agg(r.*)::text as keys
        from (select null::int as "id") absent
          cross join lateral (select "id" from plus_changed limit 1001) r
        having pg_catalog.count(r."id") between 1 and 1000 offset 0) a
      where pg_catalog.pg_notify('plus_change', case when pg_catalog.octet_length(a.keys) < 7000
        then pg_catalog.format('{"s":%s,"t":%s,"k":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text), a.keys) else pg_catalog.format('{"s":%s,"t":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text)) end) is not null;
    if found then return null; end if;
  end if;
  begin
    insert into "public"."plus_change_log" (table_schema, table_name, keys)
        select tg_table_schema, tg_table_name, ('[{"id":' || pg_catalog.replace(pg_catalog.substr(s.part, 2, pg_catalog.length(s.part) - 2), E',\n ', '},{"id":') || '}]')::jsonb
        from (select case when pg_catalog.cardinality(a.keys) <= 1000000
            then pg_catalog.array_to_json(a.keys[g : g + 999], true)::text end as part
          from (select pg_catalog.array_agg(r."id") as keys
            from (select c."id" from plus_changed c limit 1000001) r offset 0) a,
            pg_catalog.generate_series(1, case when pg_catalog.cardinality(a.keys) > 1000000
              then 1 else pg_catalog.cardinality(a.keys) end, 1000) g) s;
    if not found then return null; end if;
  exception when undefined_column or undefined_table then
    insert into "public"."plus_change_log" (table_schema, table_name) values (tg_table_schema, tg_table_name);
  end;
  perform pg_catalog.pg_notify('plus_change', pg_catalog.format('{"s":%s,"t":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text)));
  return null;
end $plus$;
create or replace trigger "plus_v2_update" after update on "tag" referencing old table as plus_changed for each statement execute function "tag_plus_v2_update_fn"('keys');
alter table "tag" enable always trigger "plus_v2_update";
create or replace function "tag_plus_v2_delete_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ begin
  if tg_nargs > 0 then
    insert into "public"."plus_change_log" (table_schema, table_name, keys)
      select tg_table_schema, tg_table_name, a.keys::jsonb
      from (select pg_catalog.json_agg(r.*)::text as keys
        from (select null::int as "id") absent
          cross join lateral (select "id" from plus_changed limit 1001) r
        having pg_catalog.count(r."id") between 1 and 1000 offset 0) a
      where pg_catalog.pg_notify('plus_change', case when pg_catalog.octet_length(a.keys) < 7000
        then pg_catalog.format('{"s":%s,"t":%s,"k":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text), a.keys) else pg_catalog.format('{"s":%s,"t":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text)) end) is not null;
    if found then return null; end if;
  end if;
  begin
    insert into "public"."plus_change_log" (table_schema, table_name, keys)
        select tg_table_schema, tg_table_name, ('[{"id":' || pg_catalog.replace(pg_catalog.substr(s.part, 2, pg_catalog.length(s.part) - 2), E',\n ', '},{"id":') || '}]')::jsonb
        from (select case when pg_catalog.cardinality(a.keys) <= 1000000
            then pg_catalog.array_to_json(a.keys[g : g + 999], true)::text end as part
          from (select pg_catalog.array_agg(r."id") as keys
            from (select c."id" from plus_changed c limit 1000001) r offset 0) a,
            pg_catalog.generate_series(1, case when pg_catalog.cardinality(a.keys) > 1000000
              then 1 else pg_catalog.cardinality(a.keys) end, 1000) g) s;
    if not found then return null; end if;
  exception when undefined_column or undefined_table then
    insert into "public"."plus_change_log" (table_schema, table_name) values (tg_table_schema, tg_table_name);
  end;
  perform pg_catalog.pg_notify('plus_change', pg_catalog.format('{"s":%s,"t":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text)));
  return null;
end $plus$;
create or replace trigger "plus_v2_delete" after delete on "tag" referencing old table as plus_changed for each statement execute function "tag_plus_v2_delete_fn"('keys');
alter table "tag" enable always trigger "plus_v2_delete";
create or replace function "tag_plus_v2_truncate_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ begin
  if tg_op = 'TRUNCATE' then
    insert into "public"."plus_change_log" (table_schema, table_name) values (tg_table_schema, tg_table_name);
    perform pg_catalog.pg_notify('plus_change', pg_catalog.format('{"s":%s,"t":%s}', pg_catalog.to_json(tg_table_schema::text), pg_catalog.to_json(tg_table_name::text)));
  end if;
  return null;
end $plus$;
create or replace trigger "plus_v2_truncate" after delete or truncate on "tag" for each statement execute function "tag_plus_v2_truncate_fn"();
alter table "tag" enable always trigger "plus_v2_truncate";
