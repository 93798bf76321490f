create or replace function "tag_plus_v1_update_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ declare
  plus_keys jsonb;
  plus_count int;
  plus_payload text;
begin
  begin
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', r."id")) into plus_keys
      from (select c."id" from plus_changed c limit 1001) r;
    if plus_keys is null then return null; end if;
    plus_count := pg_catalog.jsonb_array_length(plus_keys);
    if plus_count > 1000 then
      plus_keys := null;
      insert into "public"."plus_change_log" (table_schema, table_name, keys)
        select tg_table_schema, tg_table_name, ('[{"id":' || pg_catalog.replace(pg_catalog.substr(s.part, 2, pg_catalog.length(s.part) - 2), E',\n ', '},{"id":') || '}]')::jsonb
        from (select case when pg_catalog.cardinality(a.keys) <= 1000000
            then pg_catalog.array_to_json(a.keys[g : g + 999], true)::text end as part
          from (select pg_catalog.array_agg(r."id") as keys
            from (select c."id" from plus_changed c limit 1000001) r offset 0) a,
            pg_catalog.generate_series(1, case when pg_catalog.cardinality(a.keys) > 1000000
              then 1 else pg_catalog.cardinality(a.keys) end, 1000) g) s;
    end if;
  exception when undefined_column or undefined_table then
    plus_count := 0;
  end;
  if plus_count <= 1000 then
    insert into "public"."plus_change_log" (table_schema, table_name, keys) values (tg_table_schema, tg_table_name, plus_keys);
  end if;
  if plus_keys is not null then plus_payload := pg_catalog.json_build_object('s', tg_table_schema, 't', tg_table_name, 'k', plus_keys)::text; end if; if plus_payload is null or pg_catalog.octet_length(plus_payload) >= 7500 then plus_payload := pg_catalog.json_build_object('s', tg_table_schema, 't', tg_table_name)::text; end if; perform pg_catalog.pg_notify('plus_change', plus_payload);
  return null;
end $plus$;
create or replace trigger "plus_v1_update" after update on "tag" referencing old table as plus_changed for each statement execute function "tag_plus_v1_update_fn"();
alter table "tag" enable always trigger "plus_v1_update";
create or replace function "tag_plus_v1_delete_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ declare
  plus_keys jsonb;
  plus_count int;
  plus_payload text;
begin
  begin
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', r."id")) into plus_keys
      from (select c."id" from plus_changed c limit 1001) r;
    if plus_keys is null then return null; end if;
    plus_count := pg_catalog.jsonb_array_length(plus_keys);
    if plus_count > 1000 then
      plus_keys := null;
      insert into "public"."plus_change_log" (table_schema, table_name, keys)
        select tg_table_schema, tg_table_name, ('[{"id":' || pg_catalog.replace(pg_catalog.substr(s.part, 2, pg_catalog.length(s.part) - 2), E',\n ', '},{"id":') || '}]')::jsonb
        from (select case when pg_catalog.cardinality(a.keys) <= 1000000
            then pg_catalog.array_to_json(a.keys[g : g + 999], true)::text end as part
          from (select pg_catalog.array_agg(r."id") as keys
            from (select c."id" from plus_changed c limit 1000001) r offset 0) a,
            pg_catalog.generate_series(1, case when pg_catalog.cardinality(a.keys) > 1000000
              then 1 else pg_catalog.cardinality(a.keys) end, 1000) g) s;
    end if;
  exception when undefined_column or undefined_table then
    plus_count := 0;
  end;
  if plus_count <= 1000 then
    insert into "public"."plus_change_log" (table_schema, table_name, keys) values (tg_table_schema, tg_table_name, plus_keys);
  end if;
  if plus_keys is not null then plus_payload := pg_catalog.json_build_object('s', tg_table_schema, 't', tg_table_name, 'k', plus_keys)::text; end if; if plus_payload is null or pg_catalog.octet_length(plus_payload) >= 7500 then plus_payload := pg_catalog.json_build_object('s', tg_table_schema, 't', tg_table_name)::text; end if; perform pg_catalog.pg_notify('plus_change', plus_payload);
  return null;
end $plus$;
create or replace trigger "plus_v1_delete" after delete on "tag" referencing old table as plus_changed for each statement execute function "tag_plus_v1_delete_fn"();
alter table "tag" enable always trigger "plus_v1_delete";
create or replace function "tag_plus_v1_truncate_fn"() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $plus$ declare
  plus_payload text;
begin
  if tg_op = 'TRUNCATE' then
    insert into "public"."plus_change_log" (table_schema, table_name) values (tg_table_schema, tg_table_name);
    if plus_payload is null or pg_catalog.octet_length(plus_payload) >= 7500 then plus_payload := pg_catalog.json_build_object('s', tg_table_schema, 't', tg_table_name)::text; end if; perform pg_catalog.pg_notify('plus_change', plus_payload);
  end if;
  return null;
end $plus$;
create or replace trigger "plus_v1_truncate" after delete or truncate on "tag" for each statement execute function "tag_plus_v1_truncate_fn"();
alter table "tag" enable always trigger "plus_v1_truncate";
