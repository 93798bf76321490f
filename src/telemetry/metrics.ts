import type { Meter } from '@opentelemetry/api';
import { onMessage } from '../observability/channels.js';
import type { RelayStatus } from '../observability/relay-status.js';
import { ENTITY, errorType, OUTCOME, RELEASED, RESULT, resultOf, STORE } from './attributes.js';

/** From an identity map's answer to one of a database in trouble, in seconds. */
const BUCKETS = [
  0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

/** From a relay that is told at once to one that was down for minutes, in seconds. */
const LAG_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** What ends a recording. */
export type End = () => void;

/** Whose relay is asked how it is doing, whenever metrics are collected. */
export interface RelayOwner {
  relayStatus(): Pick<RelayStatus, 'role' | 'backlog'>;
}

/** Records metrics until the returned function is called. */
export function recordMetrics(meter: Meter, owner: RelayOwner | undefined): End {
  const ends = [
    recordLookups(meter),
    recordEntries(meter),
    recordCommits(meter),
    recordStores(meter),
    recordDeliveries(meter),
    ...(owner ? [observeRelay(meter, owner)] : []),
  ];
  return () => {
    for (const end of ends) end();
  };
}

function recordLookups(meter: Meter): End {
  const lookups = meter.createCounter('mikro_orm_plus.lookups', {
    unit: '{lookup}',
    description: 'Lookups, by who answered them or what they did.',
  });
  const durations = meter.createHistogram('mikro_orm_plus.lookup.duration', {
    unit: 's',
    description: 'Time from the call to its answer; lookups of one batch share it.',
    advice: { explicitBucketBoundaries: BUCKETS },
  });
  const races = meter.createCounter('mikro_orm_plus.races_lost', {
    unit: '{lookup}',
    description: 'Lookups that found the row only after another writer had created it first.',
  });
  return onMessage('lookup', (message) => {
    const attributes = { [ENTITY]: message.entity, [RESULT]: resultOf(message) };
    lookups.add(1, attributes);
    durations.record(message.duration / 1_000, attributes);
    if (message.raceLost) races.add(1, { [ENTITY]: message.entity });
  });
}

function recordEntries(meter: Meter): End {
  const counters = {
    fill: meter.createCounter('mikro_orm_plus.cache.fills', {
      unit: '{entry}',
      description: 'Rows put into a store after they were read or created.',
    }),
    'refused-fill': meter.createCounter('mikro_orm_plus.cache.refused_fills', {
      unit: '{entry}',
      description: 'Rows that were not put into a store, since their lease or guard was void.',
    }),
    'soft-lock': meter.createCounter('mikro_orm_plus.cache.soft_locks', {
      unit: '{entry}',
      description: 'Soft locks put on entries before a commit.',
    }),
    eviction: meter.createCounter('mikro_orm_plus.cache.evictions', {
      unit: '{entry}',
      description: 'Entries removed on request, by the relay, or because they could not be read.',
    }),
  };
  return onMessage('cache', ({ entity, event, entries }) => {
    counters[event].add(entries, { [ENTITY]: entity });
  });
}

function recordCommits(meter: Meter): End {
  const transactions = meter.createCounter('mikro_orm_plus.transactions', {
    unit: '{transaction}',
    description: 'Ends of transactions that had changed cached rows, and whether the stores could be told.',
  });
  return onMessage('commit', ({ outcome, released }) => {
    transactions.add(1, { [OUTCOME]: outcome, [RELEASED]: released });
  });
}

function recordStores(meter: Meter): End {
  const failures = meter.createCounter('mikro_orm_plus.store.failures', {
    unit: '{operation}',
    description: 'Operations that a store failed or did not answer in time.',
  });
  const circuits = meter.createObservableGauge('mikro_orm_plus.store.open_circuits', {
    unit: '{circuit}',
    description: 'Stores that are bypassed since they failed; no series for one that never has.',
  });
  const open = new Map<string, number>();
  const observe: Parameters<typeof circuits.addCallback>[0] = (gauge) => {
    for (const [store, count] of open) gauge.observe(count, { [STORE]: store });
  };
  circuits.addCallback(observe);
  const ends = [
    () => circuits.removeCallback(observe),
    onMessage('store', ({ store, operation, error }) => {
      failures.add(1, { [STORE]: store, 'db.operation.name': operation, 'error.type': errorType(error) });
    }),
    onMessage('circuit', ({ store, state }) => {
      // one that was open before the recording began was not counted
      const count = Math.max(0, (open.get(store) ?? 0) + (state === 'open' ? 1 : -1));
      open.set(store, count);
    }),
  ];
  return () => {
    for (const end of ends) end();
  };
}

function recordDeliveries(meter: Meter): End {
  const lags = meter.createHistogram('mikro_orm_plus.relay.lag', {
    unit: 's',
    description: 'Time from the oldest change of a delivery until the stores had confirmed it.',
    advice: { explicitBucketBoundaries: LAG_BUCKETS },
  });
  const changes = meter.createCounter('mikro_orm_plus.relay.changes', {
    unit: '{change}',
    description: 'Rows of the change log that were delivered.',
  });
  const failures = meter.createCounter('mikro_orm_plus.relay.failures', {
    unit: '{failure}',
    description: 'Failures of the relay; each kind counts once until it is over.',
  });
  return onMessage('relay', (message) => {
    if (message.kind === 'delivery') {
      lags.record(message.lag / 1_000);
      changes.add(message.changes);
    } else if (message.kind === 'failure') {
      failures.add(1, { 'db.operation.name': message.operation, 'error.type': errorType(message.error) });
    }
  });
}

function observeRelay(meter: Meter, owner: RelayOwner): End {
  const backlog = meter.createObservableGauge('mikro_orm_plus.relay.backlog', {
    unit: '{change}',
    description: 'Rows left in the change log when the active relay last looked; only that process has a series.',
  });
  const active = meter.createObservableGauge('mikro_orm_plus.relay.active', {
    unit: '{relay}',
    description: '1 in the process whose relay delivers, 0 in the others: the sum over all processes is to be 1.',
  });
  const observe: Parameters<Meter['addBatchObservableCallback']>[0] = (result) => {
    const status = owner.relayStatus();
    result.observe(active, status.role === 'active' ? 1 : 0);
    if (status.role === 'active' && status.backlog !== undefined) result.observe(backlog, status.backlog);
  };
  const observed = [backlog, active];
  meter.addBatchObservableCallback(observe, observed);
  return () => meter.removeBatchObservableCallback(observe, observed);
}
