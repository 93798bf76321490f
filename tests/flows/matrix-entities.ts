import { defineEntity, p, Type } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';

/** A value object, kept as text. */
export class Code {
  constructor(
    readonly letter: string,
    readonly digit: number,
  ) {}
}

class CodeType extends Type<Code, string> {
  override convertToDatabaseValue(value: Code | string): string {
    return value instanceof Code ? `${value.letter}-${value.digit}` : value;
  }

  override convertToJSValue(value: Code | string): Code {
    if (value instanceof Code) return value;
    const [letter, digit] = value.split('-');
    return new Code(letter!, Number(digit));
  }

  override getColumnType(): string {
    return 'text';
  }
}

/** Converted by the database on its way in and out: the column holds upper case, the property lower case. */
class LoudType extends Type<string, string> {
  override convertToDatabaseValueSQL(key: string): string {
    return `upper(${key})`;
  }

  override convertToJSValueSQL(key: string): string {
    return `lower(${key})`;
  }

  override getColumnType(): string {
    return 'text';
  }
}

export enum Color {
  RED = 'red',
  BLUE = 'blue',
  GREEN = 'green',
}

export enum Level {
  LOW,
  MIDDLE,
  HIGH,
}

const weight = p.integer().default(0);

export const CompositePk = withRepo(
  defineEntity({
    name: 'CompositePk',
    properties: { left: p.integer().primary(), right: p.string().primary(), weight },
  }),
  GetOrCreateRepo,
);

export const UuidPk = withRepo(
  defineEntity({
    name: 'UuidPk',
    properties: { id: p.uuid().primary().defaultRaw('gen_random_uuid()'), name: p.string().unique(), weight },
  }),
  GetOrCreateRepo,
);

export const UuidOnCreate = withRepo(
  defineEntity({
    name: 'UuidOnCreate',
    properties: {
      id: p
        .uuid()
        .primary()
        .onCreate(() => crypto.randomUUID()),
      name: p.string().unique(),
      weight,
    },
  }),
  GetOrCreateRepo,
);

export const BigintPk = withRepo(
  defineEntity({
    name: 'BigintPk',
    properties: { id: p.bigint().primary(), big: p.bigint().unique(), text: p.bigint('string').unique(), weight },
  }),
  GetOrCreateRepo,
);

export const Parent = defineEntity({
  name: 'Parent',
  properties: { id: p.integer().primary(), name: p.string() },
});

export const ByParent = withRepo(
  defineEntity({
    name: 'ByParent',
    properties: {
      id: p.integer().primary(),
      parent: () => p.manyToOne(Parent).ref(),
      name: p.string(),
      other: () => p.manyToOne(CompositePk).nullable(),
      mapped: () => p.manyToOne(Parent).mapToPk().nullable(),
      weight,
    },
    uniques: [
      { properties: ['parent', 'name'] },
      { properties: ['other', 'name'] },
      { properties: ['mapped', 'name'] },
    ],
  }),
  GetOrCreateRepo,
);

/** Its primary key is a relation. */
export const Detail = withRepo(
  defineEntity({
    name: 'Detail',
    properties: { parent: () => p.oneToOne(Parent).primary(), weight },
  }),
  GetOrCreateRepo,
);

const Address = defineEntity({
  embeddable: true,
  name: 'Address',
  properties: { city: p.string(), zip: p.string().nullable(), since: p.datetime().nullable() },
});

export const Embedding = withRepo(
  defineEntity({
    name: 'Embedding',
    properties: {
      id: p.integer().primary(),
      name: p.string(),
      address: () => p.embedded(Address),
      maybe: () => p.embedded(Address).nullable(),
      object: () => p.embedded(Address).object().nullable(),
      list: () => p.embedded(Address).array().nullable(),
      weight,
    },
    uniques: [{ properties: ['name', 'address.city'] as never }],
  }),
  GetOrCreateRepo,
);

export const Custom = withRepo(
  defineEntity({
    name: 'Custom',
    properties: {
      id: p.integer().primary(),
      code: p.type(CodeType).unique(),
      loud: p.type(LoudType).unique(),
      weight,
    },
  }),
  GetOrCreateRepo,
);

export const Partial = withRepo(
  defineEntity({
    name: 'Partial',
    properties: {
      id: p.integer().primary(),
      email: p.string(),
      deletedAt: p.datetime().nullable(),
      weight,
    },
    uniques: [{ properties: ['email'], where: 'deleted_at is null' }],
  }),
  GetOrCreateRepo,
);

export const NullsEqual = withRepo(
  defineEntity({
    name: 'NullsEqual',
    properties: { id: p.integer().primary(), scope: p.string().nullable(), name: p.string(), weight },
    uniques: [
      {
        name: 'nulls_equal_key',
        expression: (columns: Record<string, string>, table: unknown, index: string) =>
          `create unique index "${index}" on ${String(table)} (${columns['scope']}, ${columns['name']}) nulls not distinct`,
      },
    ],
  }),
  GetOrCreateRepo,
);

export const Odd = withRepo(
  defineEntity({
    name: 'Odd',
    tableName: 'Odd "table"',
    properties: {
      id: p.integer().primary().fieldName('The Id'),
      name: p.string().unique().fieldName('a "name"'),
      weight: p.integer().default(0).fieldName('select'),
    },
  }),
  GetOrCreateRepo,
);

export const Values = withRepo(
  defineEntity({
    name: 'Values',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      doubled: p.integer().generated('(weight * 2) stored').nullable(),
      color: p.enum(() => Color).nullable(),
      native: p
        .enum(() => Color)
        .nativeEnumName('native_color')
        .nullable(),
      level: p.enum(() => Level).nullable(),
      colors: p
        .enum(() => Color)
        .array()
        .nullable(),
      data: p.json<unknown>().nullable(),
      texts: p.array().nullable(),
      numbers: p.array(Number).columnType('int[]').nullable(),
      bytes: p.blob().nullable(),
      day: p.date().nullable(),
      at: p.datetime().nullable(),
      exact: p.datetime(6).nullable(),
      time: p.time().nullable(),
      price: p.decimal().precision(10).scale(2).nullable(),
      ratio: p.double().nullable(),
      big: p.bigint().nullable(),
      flag: p.boolean().nullable(),
      code: p.type(CodeType).nullable(),
      loud: p.type(LoudType).nullable(),
      essay: p.text().lazy().nullable(),
      hidden: p.string().hidden().nullable(),
      trebled: p.integer().formula((columns: Record<string, string>) => `${columns['weight']} * 3`),
      revision: p.integer().version(),
      weight,
    },
  }),
  GetOrCreateRepo,
);

export const Keys = withRepo(
  defineEntity({
    name: 'Keys',
    properties: {
      id: p.integer().primary(),
      day: p.date().nullable().unique(),
      at: p.datetime(3).nullable().unique(),
      price: p.decimal().precision(10).scale(2).nullable().unique(),
      ratio: p.double().nullable().unique(),
      flag: p.boolean().nullable(),
      color: p
        .enum(() => Color)
        .nullable()
        .unique(),
      native: p
        .enum(() => Color)
        .nativeEnumName('native_key')
        .nullable()
        .unique(),
      bytes: p.blob().nullable().unique(),
      uuid: p.uuid().nullable().unique(),
      weight,
    },
    uniques: [{ properties: ['flag', 'ratio'] }],
  }),
  GetOrCreateRepo,
);

export const Animal = withRepo(
  defineEntity({
    name: 'Animal',
    discriminatorColumn: 'kind',
    discriminatorValue: 'animal',
    properties: {
      id: p.integer().primary(),
      kind: p.string(),
      name: p.string().unique(),
      weight,
    },
  }),
  GetOrCreateRepo,
);

export const Dog = withRepo(
  defineEntity({
    name: 'Dog',
    extends: Animal,
    discriminatorValue: 'dog',
    properties: { tricks: p.integer().default(1) },
  }),
  GetOrCreateRepo,
);

export const Cat = withRepo(
  defineEntity({
    name: 'Cat',
    extends: Animal,
    discriminatorValue: 'cat',
    properties: { lives: p.integer().nullable() },
  }),
  GetOrCreateRepo,
);

/** The inverse side of a 1:1, which takes a join to load. */
export const Person = withRepo(
  defineEntity({
    name: 'Person',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight,
      passport: () => p.oneToOne(Passport).mappedBy('person').nullable(),
    },
  }),
  GetOrCreateRepo,
);

export const Passport = withRepo(
  defineEntity({
    name: 'Passport',
    properties: { id: p.integer().primary(), person: () => p.oneToOne(Person).inversedBy('passport'), weight },
  }),
  GetOrCreateRepo,
);

export const matrixEntities = [
  CompositePk,
  UuidPk,
  UuidOnCreate,
  BigintPk,
  Parent,
  ByParent,
  Detail,
  Embedding,
  Custom,
  Partial,
  NullsEqual,
  Odd,
  Values,
  Keys,
  Animal,
  Dog,
  Cat,
  Person,
  Passport,
];
