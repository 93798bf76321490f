import { defineEntity, MikroORM, p, type EntityMetadata } from '@mikro-orm/postgresql';
import { UsageError } from '../../src/cli/arguments.js';
import { parsePairs } from '../../src/cli/values.js';

const Place = defineEntity({ name: 'Place', embeddable: true, properties: { city: p.string(), zip: p.integer() } });
const Seat = defineEntity({ name: 'Seat', properties: { row: p.integer().primary(), number: p.integer().primary() } });
const Author = defineEntity({
  name: 'Author',
  properties: {
    id: p.bigint().primary(),
    name: p.string().nullable(),
    age: p.integer().nullable(),
    isAlive: p.boolean(),
    born: p.datetime(),
    mood: p.enum(['glad', 'sad']),
    place: () => p.embedded(Place),
    seat: () => p.manyToOne(Seat),
    mentor: () => p.manyToOne(Author).nullable(),
  },
});
const orm = new MikroORM({ dbName: 'none', entities: [Author, Seat, Place] });

const parse = (...pairs: string[]): Record<string, unknown> =>
  parsePairs(orm.getMetadata().get(Author) as EntityMetadata, pairs, orm.em.getPlatform());

it.each<[pair: string, where: Record<string, unknown>]>([
  ['name=Ursula', { name: 'Ursula' }],
  ['name=', { name: '' }],
  ['name=a=b', { name: 'a=b' }],
  ['name=null', { name: 'null' }],
  ['age=41', { age: 41 }],
  ['age=-1.5', { age: -1.5 }],
  ['age=null', { age: null }],
  ['isAlive=false', { isAlive: false }],
  ['born=1929-10-21T00:00:00Z', { born: new Date('1929-10-21T00:00:00Z') }],
  ['mood=glad', { mood: 'glad' }],
  ['place.city=Berkeley', { place: { city: 'Berkeley' } }],
  ['seat=3,4', { seat: [3, 4] }],
  ['mentor=7', { mentor: 7n }],
  ['mentor=null', { mentor: null }],
  ['id=123456789012345678', { id: 123456789012345678n }],
])('reads %s as the property’s type', (pair, where) => {
  expect(parse(pair)).toEqual(where);
});

it('puts pairs together', () => {
  expect(parse('name=x', 'place.city=y', 'place.zip=1')).toEqual({ name: 'x', place: { city: 'y', zip: 1 } });
});

it.each<[mistake: string, pairs: string[], message: string]>([
  ['an unknown property', ['nmae=x'], "Author has no property 'nmae'. Did you mean 'name'?"],
  ['an unknown part of an embeddable', ['place.town=x'], "Author has no property 'place.town'."],
  ['a part of what has none', ['name.first=x'], "Author has no property 'name.first'."],
  ['no value', ['name'], "'name' is not of the form property=value."],
  ['no property', ['=x'], "'=x' is not of the form property=value."],
  ['a property given twice', ['name=a', 'name=b'], "'name' is given twice."],
  ['what is no number', ['age=old'], "'old' is no value for 'age', which takes a number."],
  ['an empty number', ['age='], "'' is no value for 'age', which takes a number."],
  ['a key with a fraction', ['id=1.5'], "'1.5' is no value for 'id', which takes a whole number."],
  ['what is neither true nor false', ['isAlive=yes'], "'yes' is no value for 'isAlive', which takes true or false."],
  [
    'a date that is none',
    ['born=soon'],
    "'soon' is no value for 'born', which takes a date, e.g. 2026-01-31T12:00:00Z.",
  ],
  ['no member of an enum', ['mood=odd'], "'odd' is no value for 'mood', which takes one of glad, sad."],
  ['half of a composite key', ['seat=3'], "'3' is no value for 'seat', which takes the key row,number with commas."],
])('refuses %s', (_, pairs, message) => {
  expect(() => parse(...pairs)).toThrow(UsageError);
  expect(() => parse(...pairs)).toThrow(message);
});
