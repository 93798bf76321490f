import type { Client } from 'pg';
import { createDatabase, rawClient } from '../harness/servers.js';
import { createCliProject, type CliProject, type DoctorJson, type JsonFinding } from './project.js';

/** One entity for each state that a key can be in. */
const CONFIG = `
import { defineConfig, defineEntity, p } from '@mikro-orm/postgresql';
import { withPlusRepo, PlusRepo, PlusSubscriber } from 'mikro-orm-plus';

const id = () => p.integer().primary();
const keyed = (name: string, more: object = {}) => withPlusRepo(defineEntity({
  name,
  properties: { id: id(), name: p.string(), other: p.string().nullable(), deletedAt: p.datetime().nullable() },
  uniques: [{ properties: ['name'], ...more }],
} as never) as never);
const active = { where: '"deleted_at" is null', name: undefined as string | undefined };

const Animal = defineEntity({
  name: 'Animal', abstract: true, discriminatorColumn: 'kind',
  properties: { id: id(), kind: p.enum(['cat', 'dog']), chip: p.string().unique() },
});
const Cat = withPlusRepo(defineEntity({ name: 'Cat', extends: Animal, discriminatorValue: 'cat', properties: { box: p.string().nullable().unique() } } as never) as never);
const Dog = withPlusRepo(defineEntity({ name: 'Dog', extends: Animal, discriminatorValue: 'dog', properties: { tag: p.string().nullable().unique() } } as never) as never);
const Owner = withPlusRepo(defineEntity({ name: 'Owner', properties: { first: p.string().primary(), last: p.string().primary() } }));
const Car = withPlusRepo(defineEntity({
  name: 'Car', properties: { id: id(), owner: () => p.manyToOne(Owner), plate: p.string() },
  uniques: [{ properties: ['plate', 'owner'] }],
} as never) as never);

export default defineConfig({
  clientUrl: process.env.DATABASE_URL,
  entities: [
    ...['Fine', 'Lost', 'Doubled', 'Deferred', 'Moved', 'PartialIndex', 'JustIndex', 'NoTable', 'NoColumn', 'Equal'].map((name) => keyed(name)),
    ...['SamePredicate', 'OtherPredicate', 'NoPredicate'].map((name) => keyed(name, active)),
    keyed('WrongPredicate', { where: '"gone" is null' }),
    keyed('Distinct', { name: 'distinct_name_unique', expression: (_columns: object, table: object, index: string) =>
      'create unique index "' + index + '" on ' + table + ' ("name") nulls not distinct' }),
    keyed('DeclaredDeferred', { deferMode: 'deferred' }),
    withPlusRepo(defineEntity({ name: 'Keyless', properties: { id: id(), name: p.string() } })),
    withPlusRepo(defineEntity({ name: 'Shop', schema: 'shop', properties: { id: id(), name: p.string().unique() } })),
    withPlusRepo(defineEntity({ name: 'Tenant', schema: '*', properties: { id: id(), name: p.string().unique() } })),
    withPlusRepo(defineEntity({ name: 'Part', properties: { id: id(), name: p.string() }, uniques: [{ properties: ['id', 'name'], where: '"name" <> \\'\\'' }] })),
    defineEntity({ name: 'Plain', properties: { id: id(), name: p.string().unique() } }),
    Animal, Cat, Dog, Owner, Car,
  ] as never,
  subscribers: [new PlusSubscriber()],
});`;

/** What was done to the tables after MikroORM made them. */
const DEFECTS = `
  alter table lost drop constraint lost_name_unique;
  alter table doubled drop constraint doubled_name_unique;
  insert into doubled (name) values ('twice'), ('twice');
  alter table deferred drop constraint deferred_name_unique,
    add constraint deferred_name_unique unique (name) deferrable initially deferred;
  alter table moved drop constraint moved_name_unique, add constraint moved_name_unique unique (name, other);
  alter table partial_index drop constraint partial_index_name_unique;
  create unique index partial_index_name_unique on partial_index (name) where deleted_at is null;
  alter table just_index drop constraint just_index_name_unique;
  create index just_index_name_unique on just_index (name);
  drop table no_table;
  alter table no_column drop column other;
  alter table equal drop constraint equal_name_unique;
  create unique index equal_name_unique on equal (name) nulls not distinct;
  drop index same_predicate_name_unique;
  create unique index same_predicate_name_unique on same_predicate (name) where (NOT (deleted_at IS NOT NULL)) = true;
  drop index other_predicate_name_unique;
  create unique index other_predicate_name_unique on other_predicate (name) where deleted_at is not null;
  drop index no_predicate_name_unique;
  create unique index no_predicate_name_unique on no_predicate (name);
  drop index distinct_name_unique;
  create unique index distinct_name_unique on "distinct" (name);
  drop table part;
  create table part (id int not null, name text not null, primary key (id)) partition by hash (id);
  create table part_0 partition of part for values with (modulus 1, remainder 0);
  create unique index on part (id, name) where (name <> '');
  create schema tenant_a; create table tenant_a.tenant (id serial primary key, name text not null);
`;

let project: CliProject;
let database: Client;
let env: Record<string, string>;
let code: number | null;
let report: DoctorJson;

beforeAll(async () => {
  const url = await createDatabase('doctor');
  env = { DATABASE_URL: url };
  project = await createCliProject({ 'mikro-orm.config.ts': CONFIG });
  database = await rawClient(url);
  // its predicate names a column that there isn't, so MikroORM can't make it
  const created = await project.mikroOrm(['schema:create', '--dump'], env);
  await database.query(created.stdout.replaceAll('where "gone" is null', 'where "other" is null'));
  await database.query(DEFECTS);
  const failing = 'create unique index concurrently doubled_name_unique on doubled (name)';
  await expect(database.query(failing)).rejects.toThrow('could not create unique index');
  ({ code, report } = await project.doctor(env));
});
afterAll(async () => {
  await database?.end();
  await project?.[Symbol.asyncDispose]();
});

const about = (subject: string): JsonFinding[] =>
  report.findings.filter((finding) => finding.topic === 'natural-keys' && finding.subject === subject);

describe('doctor says of a key that', () => {
  it.each<[state: string, subject: string, code: string, message: RegExp]>([
    ['it is missing', 'Lost(name)', 'missing', /^there is no unique index on \(name\)$/],
    ['its index is invalid', 'Doubled(name)', 'invalid', /"doubled_name_unique" is invalid/],
    ['its constraint is deferrable', 'Deferred(name)', 'deferrable', /"deferred_name_unique" is deferrable/],
    ['its index is on other columns', 'Moved(name)', 'other-columns', /is on \(name, other\), declared is \(name\)/],
    [
      'its index is partial',
      'PartialIndex(name)',
      'other-predicate',
      /rows where \(deleted_at IS NULL\), declared is all rows/,
    ],
    ['its index is not unique', 'JustIndex(name)', 'not-unique', /is not unique/],
    ['its index takes nulls for equal', 'Equal(name)', 'other-nulls', /takes nulls for equal, declared is distinct/],
    [
      'its index takes nulls for distinct',
      'Distinct(name)',
      'other-nulls',
      /takes nulls for distinct, declared is equal/,
    ],
    [
      'its index has another predicate',
      'OtherPredicate(name)',
      'other-predicate',
      /IS NOT NULL\), declared is rows where "deleted_at" is null/,
    ],
    ['its index has no predicate', 'NoPredicate(name)', 'other-predicate', /is for all rows, declared is rows where/],
    ['its predicate is wrong', 'WrongPredicate(name)', 'predicate-unusable', /column "gone" does not exist/],
    ['its table is missing', 'NoTable', 'table-missing', /there is no table "public"."no_table"/],
    ['a column is missing', 'NoColumn', 'column-missing', /has no column "other"/],
  ])('%s', (_, subject, expected, message) => {
    const [finding, ...others] = about(subject);
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ topic: 'natural-keys', severity: 'problem', code: `natural-keys.${expected}` });
    expect(finding!.message).toMatch(message);
    expect(finding!.remedy.length).toBeGreaterThan(0);
  });

  it.each([
    'Fine(name)',
    'SamePredicate(name)',
    'Shop(name)',
    'Cat(chip)',
    'Cat(box)',
    'Dog(tag)',
    'Car(plate, owner)',
    'Part(id, name)',
    'Owner(first, last)',
  ])('%s is there', (subject) => {
    expect(about(subject)).toMatchObject([{ severity: 'ok', code: 'natural-keys.present' }]);
  });

  it('no lookup can use it, when the declaration alone shows that', () => {
    expect(about('Keyless')).toMatchObject([{ severity: 'warning', code: 'natural-keys.none' }]);
    expect(about('DeclaredDeferred(name)')).toMatchObject([
      { severity: 'warning', code: 'natural-keys.declared-deferrable' },
    ]);
  });
});

it('reports the key of a single-table hierarchy once', () => {
  expect(report.findings.filter(({ subject }) => subject.endsWith('(chip)'))).toHaveLength(1);
});

it('leaves entities without a repository of the library alone', () => {
  expect(report.findings.filter(({ subject }) => subject.startsWith('Plain'))).toEqual([]);
});

it('looks at entities that are in every schema where it is told to', async () => {
  expect(about('Tenant')).toMatchObject([{ severity: 'warning', code: 'natural-keys.schema-unknown' }]);
  const { report: ofTenant } = await project.doctor(env, ['--schema', 'tenant_a']);
  expect(ofTenant.findings.filter(({ subject }) => subject.startsWith('Tenant('))).toMatchObject([
    { code: 'natural-keys.present', subject: 'Tenant(id)' },
    { code: 'natural-keys.missing', subject: 'Tenant(name)' },
  ]);
});

it('counts what it found, and has exit code 1', () => {
  const count = (severity: string) => report.findings.filter((finding) => finding.severity === severity).length;
  expect(code).toBe(1);
  expect(report).toMatchObject({
    format: 1,
    problems: count('problem'),
    warnings: count('warning'),
    passed: count('ok'),
  });
});

it('gives remedies that work', async () => {
  // the duplicates and the wrong declaration are for a person to correct
  await database.query('delete from doubled');
  const broken = report.findings.filter(
    (finding) =>
      finding.severity === 'problem' && !['WrongPredicate(name)', 'NoTable', 'NoColumn'].includes(finding.subject),
  );
  for (const { remedy } of broken) {
    for (const statement of remedy.filter((line) => !line.startsWith('--') && !line.startsWith('npx'))) {
      await database.query(statement);
    }
  }
  const { report: after } = await project.doctor(env);
  const healed = after.findings.filter(({ subject }) => broken.some((finding) => finding.subject === subject));
  expect(healed).toEqual(healed.map((finding) => ({ ...finding, severity: 'ok', code: 'natural-keys.present' })));
  expect(healed).toHaveLength(broken.length);
});
