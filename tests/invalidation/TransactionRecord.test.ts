import { TransactionRecord, TransactionRecords } from '../../src/invalidation/TransactionRecord.js';
import type { Region } from '../../src/stores/Region.js';

const region = { name: 'r' } as Region;

describe('the records of transactions', () => {
  /** Starts as MikroORM does: before the start, `transaction` is the one around it. */
  function start(records: TransactionRecords, transaction: object, around?: object, em: object = {}): object {
    records.beforeStart({ em, transaction: around });
    records.afterStart({ em, transaction });
    return transaction;
  }
  const savepoint = (name = 'trx1') => ({ savepointName: name });

  it('are one per transaction, shared by its savepoints', () => {
    const records = new TransactionRecords();
    const root = start(records, {});
    const first = start(records, savepoint(), root);
    const inner = start(records, savepoint('trx2'), first);
    const other = start(records, {});
    expect(records.of(root as never)).toBeInstanceOf(TransactionRecord);
    expect(records.of(inner as never)).toBe(records.of(root as never));
    expect(records.of(first as never)).toBe(records.of(root as never));
    expect(records.of(other as never)).not.toBe(records.of(root as never));
    expect(records.of(undefined)).toBeUndefined();
  });

  it('end with the transaction, and not with a savepoint', () => {
    const records = new TransactionRecords();
    const root = start(records, {});
    const inner = start(records, savepoint(), root);
    const record = records.of(inner);
    expect(records.ofEnding(inner)).toBeUndefined();
    expect(records.ofEnding(root)).toBe(record);
    records.end(root);
    expect(records.of(root as never)).toBeUndefined();
    expect(records.of(inner as never)).toBeUndefined();
  });

  it('are made when they are asked for: a transaction that touches nothing has none at its end', () => {
    const records = new TransactionRecords();
    const root = start(records, {});
    expect(records.ofEnding(root)).toBeUndefined();
    expect(records.of(root as never)).toBeInstanceOf(TransactionRecord);
    expect(records.ofEnding(root)).toBe(records.of(root as never));
  });

  it('don’t mix transactions that start at the same time on different EntityManagers', () => {
    const records = new TransactionRecords();
    const [one, other] = [start(records, {}), start(records, {})];
    const [em, otherEm] = [{}, {}];
    records.beforeStart({ em, transaction: one });
    records.beforeStart({ em: otherEm, transaction: other });
    const [inner, otherInner] = [savepoint(), savepoint()];
    records.afterStart({ em, transaction: inner });
    records.afterStart({ em: otherEm, transaction: otherInner });
    expect(records.of(inner as never)).toBe(records.of(one as never));
    expect(records.of(otherInner as never)).toBe(records.of(other as never));
  });

  it('know nothing of a transaction whose start was not told, nor of its savepoints', () => {
    const records = new TransactionRecords();
    const unseen = {};
    expect(records.of(unseen as never)).toBeUndefined();
    expect(records.of(start(records, savepoint(), unseen) as never)).toBeUndefined();
    expect(records.of(savepoint() as never)).toBeUndefined();
    expect(records.ofEnding(undefined)).toBeUndefined();
  });
});

describe('the record of a transaction', () => {
  it('forgets a row that was written twice, as nobody knows what is committed', () => {
    const record = new TransactionRecord();
    record.touch(region, 'once', 'row');
    record.touch(region, 'twice', 'first');
    record.touch(region, 'twice', 'second');
    record.touch(region, 'unknown');
    record.touch(region, 'unknown', 'row');
    expect(record.touched().map(({ key, value }) => [key, value])).toEqual([
      ['once', 'row'],
      ['twice', undefined],
      ['unknown', undefined],
    ]);
  });

  it('knows what the transaction has touched, one by one or by region', () => {
    const record = new TransactionRecord();
    record.touch(region, 'a');
    const other = { name: 'other' } as Region;
    record.cleared.add(other);
    expect(record.hasTouched(region, 'a')).toBe(true);
    expect(record.hasTouched(region, 'b')).toBe(false);
    expect(record.hasTouched(other, 'b')).toBe(true);
  });

  it('has a name of its own among the holders of soft locks', () => {
    expect(new TransactionRecord().holder).not.toBe(new TransactionRecord().holder);
  });
});
