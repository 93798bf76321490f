import { parseNotification, triggerName, triggerVersion } from '../../src/invalidation/change-log.js';

test('a notification says which rows of which table may have changed', () => {
  expect(parseNotification('{"s": "public", "t": "tag", "k": [{"id": 1}]}')).toEqual({
    schema: 'public',
    table: 'tag',
    keys: [{ id: 1 }],
  });
  expect(parseNotification('{"s": "public", "t": "tag"}')).toEqual({ schema: 'public', table: 'tag', keys: undefined });
});

test.each(['', 'null', '7', '[]', '{', '{"s": 1, "t": "tag"}', '{"t": "tag"}'])(
  'what somebody else notifies is no change: %j',
  (payload) => {
    expect(parseNotification(payload)).toBeUndefined();
  },
);

test('a trigger of the library tells its version by its name', () => {
  expect(triggerName('update')).toBe('plus_v3_update');
  expect(triggerVersion(triggerName('truncate', 12))).toBe(12);
  expect(triggerVersion('users_own_update')).toBeUndefined();
  expect(triggerVersion('plus_v3_insert')).toBeUndefined();
});
