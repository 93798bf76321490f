import { resolveRelay } from '../../src/config/relay-options.js';
import { ConfigurationError, PlusSubscriber } from '../../src/index.js';

describe('the options of the relay', () => {
  it('have defaults, and are none when there is to be no relay', () => {
    expect(resolveRelay(undefined)).toBeUndefined();
    expect(resolveRelay(false)).toBeUndefined();
    expect(resolveRelay(true)).toEqual({
      connection: undefined,
      schema: undefined,
      pollInterval: 5_000,
      batchSize: 1_000,
    });
    expect(resolveRelay({ batchSize: 7, schema: 'ops' })).toMatchObject({
      pollInterval: 5_000,
      batchSize: 7,
      schema: 'ops',
    });
  });

  it.each([
    [{ interval: 5 }, /no option 'interval'/],
    [{ pollInterval: 0 }, /pollInterval/],
    [{ pollInterval: 9 }, /at least 10/],
    [{ pollInterval: Number.NaN }, /pollInterval/],
    [{ batchSize: 0 }, /batchSize/],
    [{ batchSize: 1.5 }, /batchSize/],
    [{ batchSize: 10_001 }, /batchSize/],
    [{ schema: '' }, /schema/],
    [{ connection: 'mysql://user:secret@host/db' }, /connection/],
    [{ connection: '' }, /connection/],
    ['yes', /true, false or an object/],
  ])('are refused when they can not work: %j', (relay, message) => {
    const create = (): unknown => new PlusSubscriber({ relay: relay as never });
    expect(create).toThrow(ConfigurationError);
    expect(create).toThrow(message);
    expect(create).not.toThrow(/secret/);
  });

  it('leave a subscriber without a relay stopped', () => {
    expect(new PlusSubscriber().relayStatus()).toEqual({ role: 'stopped', listening: false, delivered: 0 });
  });
});
