import { script, TERM_LENGTH } from './scripts.js';

/**
 * A fill under a guard, for a cluster, where the entry and its region's sequence live on different nodes and no script
 * reaches both. It has three steps, each for the whole batch and each awaited before the next:
 *
 * 1. PIN puts a token in front of the entry, which otherwise stays what it is; a locked one isn't pinned. Every other
 *    transition writes the entry anew, without the pin.
 * 2. CHECK asks whether the sequence is still that of the guard, and how long the guard lasts.
 * 3. FILL_PINNED stores the value if the pin is still there and the guard's time isn't over.
 *
 * On the other side, a writer moves the sequence, awaits that, and only then touches the entry: whoever sees an entry
 * released sees the sequence moved.
 *
 * **Why no old row lands.** The filler takes its guard at g, selects at s, pins at p, checks at c, fills at f, and
 * g < s < p < c < f. A writer locks the entry, commits, moves the sequence at m, and releases the entry at r. If the
 * select didn't see its row, it committed after s, so g < s < m < r. Now:
 *
 * - r < p: then g < m < p < c, so the check finds the sequence moved. Refused.
 * - p < r < f: the release took the pin away. Refused.
 * - f < r: if the lock came after f, it removed the value before the commit. If it came between p and f, it took the pin
 *   away. If before p, the entry is still locked and not pinned. Only a lock that ran out or was lost lets the fill
 *   land, and then the release removes it, as it does on a single server.
 * - The writer died and r never comes: the value must not land after the lock has run out, so the guard has an end.
 *   Clocks of nodes may differ, so times of two nodes are never compared: CHECK gives what remains of the guard on the
 *   sequence's node, and FILL_PINNED allows that much since the pin (p < c) on the entry's node.
 *
 * An evict or clear moves the sequence first too, and takes the pin like a release.
 *
 * **Resharding and failover.** Pin and guard name the term of their node (see `scripts.ts`). An entry or a sequence that
 * moves to another node, or whose node loses its latest writes in a failover, is in another term there: void.
 */

/** Characters of a token. */
const TOKEN_LENGTH = 36;

/**
 * KEYS: an entry. ARGV: token, life of the pin in ms where there is nothing else.
 * Returns the server's time in ms; '' if the entry is locked.
 */
export const PIN = script(`
local entry = get(KEYS[1])
if lock_of(entry) then return '' end
local pin = 'p' .. term .. ARGV[1]
if entry and entry ~= '' then
  redis.call('SET', KEYS[1], pin .. entry, 'KEEPTTL')
else
  redis.call('SET', KEYS[1], pin, 'PX', ARGV[2])
end
return string.format('%.0f', now)
`);

/**
 * KEYS: a sequence. ARGV: guard. Returns what remains of the guard in ms; 0 or less if it is void. Reads with a command
 * that counts as a write, for the reason that READ has.
 */
export const CHECK = script(`
local nonce, in_term, ends = string.match(ARGV[1], '^(.+):(%x+):(%d+)$')
local sequence = redis.call('GETEX', KEYS[1])
if nonce and in_term == term and nonce == sequence then return string.format('%.0f', ends - now) end
return '0'
`);

/**
 * KEYS: an entry. ARGV: token of its pin, the last moment in ms of this server's time, what to store, its life in ms.
 * Returns 1 if it was written, else 0.
 */
export const FILL_PINNED = script(`
local entry = redis.call('GET', KEYS[1])
if now > tonumber(ARGV[2]) or not entry or string.sub(entry, 1, ${1 + TERM_LENGTH + TOKEN_LENGTH}) ~= 'p' .. term .. ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], 'v' .. term .. string.sub(ARGV[3], 2), 'PX', ARGV[4])
return 1
`);
