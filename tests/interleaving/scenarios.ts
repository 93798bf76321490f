import type { Scenario } from './explore.js';
import {
  autocommit,
  bypassingLateLock,
  evict,
  flush,
  getOrCreate,
  insert,
  knownKey,
  lateRelease,
  lostCommitAnswer,
  rejectedForLateLock,
  rollback,
  unknownKey,
  unseenThenEvict,
  writer,
} from './processes.js';

/** Ticks in which leases, guards and locks all run out. */
const LONG_ENOUGH = 3;

const update = writer();
const updateAndStore = writer({ writeThrough: true });
const remove = writer({ change: 'delete' });

/** The protocol as it is, in every situation that has few enough ways to go them all. Nothing may go wrong in any. */
export const sound: Readonly<Record<string, Scenario>> = {
  'readers, a writer who may die, a store that loses anything, and time': {
    processes: { R: knownKey, S: unknownKey, W: updateAndStore },
    ticks: LONG_ENOUGH,
    losses: 1,
    loss: ['row', 'sequence', 'everything'],
    deaths: 1,
  },
  'a reader, two writers, an emptied store, and time': {
    processes: { R: knownKey, V: updateAndStore, W: updateAndStore },
    ticks: 2,
    losses: 1,
  },
  'two readers and two writers who may die': {
    processes: { R: knownKey, S: unknownKey, V: updateAndStore, W: updateAndStore },
    deaths: 2,
  },
  'readers, a writer who rolls back, another writer, and time': {
    processes: { R: knownKey, S: unknownKey, V: rollback, W: updateAndStore },
    ticks: 1,
  },
  'three readers, a writer, and a store that loses what it holds': {
    processes: { R: knownKey, S: knownKey, T: unknownKey, W: update },
    losses: 1,
    loss: ['row', 'everything'],
    cached: true,
  },
  'readers, a flush whose lock comes before its statement, another writer, and an emptied store': {
    processes: { R: knownKey, S: unknownKey, F: flush(false), W: updateAndStore },
    losses: 1,
  },
  'a flush that asks for its lock again, after any time, and may die': {
    processes: { R: knownKey, S: unknownKey, F: flush(true) },
    ticks: LONG_ENOUGH,
    losses: 1,
    loss: ['row', 'sequence', 'everything'],
    deaths: 1,
  },
  'a writer whose lock comes too late and is refused its commit': {
    processes: { R: knownKey, S: unknownKey, V: rejectedForLateLock, W: updateAndStore },
    ticks: 1,
  },
  'a writer whose lock comes too late and who commits all the same': {
    processes: { R: knownKey, S: unknownKey, V: bypassingLateLock, W: updateAndStore },
  },
  'a writer whose release comes after the acknowledgement': {
    processes: { R: knownKey, S: unknownKey, V: lateRelease, W: updateAndStore },
  },
  'a writer who never learns whether the commit happened': {
    processes: { R: knownKey, S: unknownKey, V: lostCommitAnswer, W: updateAndStore },
    ticks: 1,
  },
  'a write outside a transaction beside a writer': {
    processes: { R: knownKey, S: unknownKey, V: autocommit, W: updateAndStore },
  },
  'a write that nobody sees and an evict, beside a writer': {
    processes: { R: knownKey, S: unknownKey, V: unseenThenEvict, W: updateAndStore },
  },
  'evicts at any time': {
    processes: { R: knownKey, S: unknownKey, E: evict, W: updateAndStore },
    ticks: 1,
    deaths: 1,
  },
  'a deletion, and a new row under its key': {
    processes: { R: knownKey, S: unknownKey, D: remove, I: insert },
    cached: true,
    deaths: 1,
  },
  'a deletion, a getOrCreate, and a writer of the new row': {
    processes: { R: knownKey, D: remove, G: getOrCreate, W: updateAndStore },
    cached: true,
  },
};
