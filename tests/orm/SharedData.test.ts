import { SharedData } from '../../src/orm/SharedData.js';

describe('shared data', () => {
  it('gives everybody data of his own, also dates', () => {
    const given = { id: 1, name: 'x', at: new Date(0), none: null, missing: undefined };
    const shared = SharedData.of(given)!;
    given.at.setTime(5);
    const [one, other] = [shared.copy(), shared.copy()];
    (one['at'] as Date).setTime(7);
    one['name'] = 'y';
    expect(other).toEqual({ id: 1, name: 'x', at: new Date(0), none: null, missing: undefined });
    expect(shared.copy()).toEqual(other);
  });

  it.each([[[1]], [{ a: 1 }], [Buffer.from('x')], [new Map()]])('is not made of data with %p in it', (value) => {
    expect(SharedData.of({ id: 1, value })).toBeUndefined();
  });
});
