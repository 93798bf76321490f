import { nowDown, nowUp } from './protocol.js';

/** How often a process looks whether it gets its turns, and how late a turn may be. */
const TURN_MS = 25;
const LATE_US = 50_000;

/**
 * Tells when this process stood still for longer than it meant to: the machine was busy, or it had been stopped. What is
 * promised "within 2 s" is promised by a process that is let run. Times are those of the protocol.
 */
export function onStall(tell: (from: number, to: number) => void): NodeJS.Timeout {
  let last = nowDown();
  return setInterval(() => {
    const now = nowUp();
    if (now - last > TURN_MS * 1_000 + LATE_US) tell(last, now);
    last = now;
  }, TURN_MS).unref();
}
