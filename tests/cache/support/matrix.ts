import { defineEntity, p, Type, Uint8ArrayType } from '@mikro-orm/postgresql';
import { PlusRepo, withPlusRepo, withRepo } from '../../../src/index.js';

/** A value object, kept as text. */
export class Money {
  constructor(
    readonly cents: number,
    readonly currency: string,
  ) {}
}

class MoneyType extends Type<Money, string> {
  override convertToDatabaseValue(value: Money | string | null): string {
    return value instanceof Money ? `${value.cents} ${value.currency}` : value!;
  }

  override convertToJSValue(value: Money | string): Money {
    if (typeof value !== 'string') return value;
    const [cents, currency] = value.split(' ');
    return new Money(Number(cents), currency!);
  }

  override getColumnType(): string {
    return 'text';
  }

  override compareAsType(): string {
    return 'string';
  }
}

/** The database stores `(x,y)`, and gives it as text. */
class PointType extends Type<{ x: number; y: number }, string> {
  override convertToDatabaseValue(value: { x: number; y: number } | string | null): string {
    return typeof value === 'string' || value === null ? value! : `(${value.x},${value.y})`;
  }

  override convertToJSValue(value: { x: number; y: number } | string): { x: number; y: number } {
    if (typeof value !== 'string') return value;
    const [x, y] = value.slice(1, -1).split(',').map(Number);
    return { x: x!, y: y! };
  }

  override convertToDatabaseValueSQL(key: string): string {
    return `${key}::point`;
  }

  override convertToJSValueSQL(key: string): string {
    return `${key}::text`;
  }

  override getColumnType(): string {
    return 'point';
  }

  override compareAsType(): string {
    return 'string';
  }
}

/** A primary key with a prefix in the application that the column doesn't have. */
class PrefixedIdType extends Type<string, number> {
  override convertToDatabaseValue(value: string | number): number {
    return typeof value === 'number' ? value : Number(value.slice(3));
  }

  override convertToJSValue(value: number | string): string {
    return typeof value === 'string' && value.startsWith('id-') ? value : `id-${value}`;
  }

  override getColumnType(): string {
    return 'int';
  }
}

export enum Color {
  RED = 'red',
  BLUE = 'blue',
}

export enum Level {
  HIGH = 7,
}

const name = p.string().unique();
const weight = p.integer().default(0);

const Place = defineEntity({
  embeddable: true,
  name: 'Place',
  properties: { city: p.string(), since: p.datetime().nullable(), people: p.bigint().nullable() },
});

export const CustomPk = withPlusRepo(
  defineEntity({ name: 'CustomPk', properties: { id: p.type(PrefixedIdType).primary(), name, weight } }),
);

export const Composite = withPlusRepo(
  defineEntity({
    name: 'Composite',
    properties: { left: p.integer().primary(), right: p.string().primary(), name, weight },
  }),
);

export const UuidPk = withPlusRepo(
  defineEntity({ name: 'UuidPk', properties: { id: p.uuid().primary(), name, weight } }),
);

export const BigPk = withPlusRepo(
  defineEntity({ name: 'BigPk', properties: { id: p.bigint().primary(), text: p.bigint('string'), name, weight } }),
);

export const BytesPk = withPlusRepo(
  defineEntity({ name: 'BytesPk', properties: { id: p.blob().primary(), name, weight } }),
);

export const Scalars = withPlusRepo(
  defineEntity({
    name: 'Scalars',
    properties: {
      id: p.integer().primary(),
      name,
      weight,
      at: p.datetime().nullable(),
      exact: p.datetime(6).nullable(),
      local: p.datetime().columnType('timestamp').nullable(),
      day: p.date().nullable(),
      time: p.time().nullable(),
      span: p.interval().nullable(),
      price: p.decimal().precision(10).scale(2).nullable(),
      amount: p.decimal('number').precision(10).scale(2).nullable(),
      ratio: p.double().nullable(),
      small: p.float().nullable(),
      big: p.bigint().nullable(),
      bigText: p.bigint('string').nullable(),
      bigNumber: p.bigint('number').nullable(),
      flag: p.boolean().nullable(),
      data: p.json<unknown>().nullable(),
      money: p.type(MoneyType).nullable(),
      point: p.type(PointType).nullable(),
      color: p.enum(() => Color).nullable(),
      native: p
        .enum(() => Color)
        .nativeEnumName('cache_color')
        .nullable(),
      level: p.enum(() => Level).nullable(),
      colors: p
        .enum(() => Color)
        .array()
        .nullable(),
      texts: p.array().nullable(),
      numbers: p.array(Number).columnType('int[]').nullable(),
      bytes: p.blob().nullable(),
      octets: p.type(Uint8ArrayType).nullable(),
      essay: p.text().lazy().nullable(),
      secret: p.string().hidden().nullable(),
      renamed: p.string().fieldName('the "other" name').nullable(),
      doubled: p.integer().generated('(weight * 2) stored').nullable(),
      trebled: p.integer().formula((columns: Record<string, string>) => `${columns['weight']} * 3`),
      revision: p.integer().version(),
    },
  }),
);

export const DateVersion = withPlusRepo(
  defineEntity({
    name: 'DateVersion',
    properties: { id: p.integer().primary(), name, weight, changedAt: p.datetime(3).version() },
  }),
);

export const Embedding = withPlusRepo(
  defineEntity({
    name: 'Embedding',
    properties: {
      id: p.integer().primary(),
      name,
      weight,
      inline: () => p.embedded(Place),
      maybe: () => p.embedded(Place).nullable(),
      object: () => p.embedded(Place).object().nullable(),
      list: () => p.embedded(Place).array().nullable(),
    },
  }),
);

export const Relations = withPlusRepo(
  defineEntity({
    name: 'Relations',
    properties: {
      id: p.integer().primary(),
      name,
      weight,
      plain: () => p.manyToOne(UuidPk).nullable(),
      wrapped: () => p.manyToOne(BigPk).ref().nullable(),
      mapped: () => p.manyToOne(BigPk).mapToPk().nullable(),
      composite: () => p.manyToOne(Composite).nullable(),
      custom: () => p.manyToOne(CustomPk).ref().nullable(),
      items: () => p.oneToMany(Item).mappedBy('owner'),
      friends: () => p.manyToMany(UuidPk),
    },
  }),
);

/** Its primary key is a relation and a number. */
export const Item = withPlusRepo(
  defineEntity({
    name: 'Item',
    properties: { owner: () => p.manyToOne(Relations).primary(), position: p.integer().primary(), name, weight },
  }),
);

/** Its primary key is a relation to a custom type. */
export const Detail = withPlusRepo(
  defineEntity({
    name: 'Detail',
    properties: { custom: () => p.oneToOne(CustomPk).primary(), name, weight },
  }),
);

export const Animal = withPlusRepo(
  defineEntity({
    name: 'Animal',
    discriminatorColumn: 'kind',
    discriminatorValue: 'animal',
    properties: { id: p.integer().primary(), kind: p.string(), name, weight },
  }),
);

export const Dog = withRepo(
  defineEntity({
    name: 'Dog',
    extends: Animal,
    discriminatorValue: 'dog',
    properties: { tricks: p.integer().default(1), born: p.datetime().nullable() },
  }),
  PlusRepo,
);

export const Cat = withRepo(
  defineEntity({
    name: 'Cat',
    extends: Animal,
    discriminatorValue: 'cat',
    properties: { lives: p.integer().nullable() },
  }),
  PlusRepo,
);

/** `1.5` and `1.50` are one key. */
export const DecimalPk = withPlusRepo(
  defineEntity({ name: 'DecimalPk', properties: { id: p.decimal().precision(10).scale(2).primary(), name, weight } }),
);

/** The inverse side of a 1:1, which takes a join to load. */
export const Person = withPlusRepo(
  defineEntity({
    name: 'Person',
    properties: {
      id: p.integer().primary(),
      name,
      weight,
      passport: () => p.oneToOne(Passport).mappedBy('person').nullable(),
    },
  }),
);

const Passport = defineEntity({
  name: 'Passport',
  properties: { id: p.integer().primary(), person: () => p.oneToOne(Person).inversedBy('passport') },
});

export const InOtherSchema = withPlusRepo(
  defineEntity({ name: 'InOtherSchema', schema: 'elsewhere', properties: { id: p.integer().primary(), name, weight } }),
);

export const CamelCased = withPlusRepo(
  defineEntity({
    name: 'CamelCased',
    properties: { id: p.integer().primary(), name, weight, longPropertyName: p.string(), anotherDate: p.datetime() },
  }),
);

export const matrixEntities = [
  CustomPk,
  Composite,
  UuidPk,
  BigPk,
  BytesPk,
  Scalars,
  DateVersion,
  Embedding,
  Relations,
  Item,
  Detail,
  Animal,
  Dog,
  Cat,
  DecimalPk,
  Person,
  Passport,
  InOtherSchema,
  CamelCased,
];
