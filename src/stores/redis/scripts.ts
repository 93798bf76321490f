import { createHash } from 'node:crypto';

/**
 * The transitions of the state table in `CacheStore.ts`, one script each. A script is atomic in Redis, so no other
 * client comes between its reads and its writes. They are strings, not `.lua` files, so that bundlers keep them.
 *
 * | key              | string stored there                                                                    |
 * |------------------|----------------------------------------------------------------------------------------|
 * | entry, value     | `v`, term, the value                                                                   |
 * | entry, leased    | `r`, term, the reader's token                                                          |
 * | entry, locked    | `w`, JSON `{ "holders": { holder: end, … }, "writer": holder or false, "term": term }` |
 * | entry, pinned    | `p`, term, token, and then one of the above or nothing (only in a cluster, see there)   |
 * | `region:seq`     | a random nonce; moving the sequence is deleting it                                     |
 *
 * Every key has an expiry. All time is the server's: clocks of clients may differ by more than a lease lasts.
 * Anything else found under an entry's key counts as absent.
 *
 * A nonce is never used twice, so a sequence may be lost at any moment (a release, eviction by `maxmemory`, FLUSHALL,
 * a restart): guards from before don't match the next one. A counter would have to survive all that.
 *
 * **Terms.** The opposite of a loss is data that comes back: a primary restarted from an old snapshot, a replica
 * promoted that had not yet received the last evicts. Redis draws a new replication id whenever a server begins to be
 * primary (it starts, it is promoted), so a part of that id names the *term* in which something was stored, and what
 * another term stored is absent: values, leases, guards, and the right to write through. Only soft locks count in every
 * term, as they only ever bypass. The script that reads an entry compares the terms in the same step, so no client has
 * to notice a failover, and clients that notice it at different times, or never, see the same.
 *
 * A server that refuses writes (a replica, `min-replicas-to-write`, a full disk) must not answer reads either, since
 * invalidations don't reach it: reads end with a command that such a server refuses.
 */
export interface RedisScript {
  readonly source: string;
  readonly sha1: string;
}

/** Characters of a term in front of a stored value. */
export const TERM_LENGTH = 16;

/**
 * Makes a script of a body that uses what the preludes define: `now`, `term`, `get`, `lock_of`, `put`, `put_lock`.
 *
 * @param shortcut may return before the most of that is made; it knows the term alone
 */
export function script(body: string, shortcut = ''): RedisScript {
  const source = TERM + shortcut + PRELUDE + body;
  return { source, sha1: createHash('sha1').update(source).digest('hex') };
}

const TERM = `
local info = redis.call('INFO', 'replication')
local _, before = string.find(info, 'master_replid:', 1, true)
local term = before and string.match(info, '^%x+', before + 1)
if not term or #term < ${TERM_LENGTH} then
  return redis.error_reply('ERR this server does not tell its master_replid, so its data cannot be trusted after a failover')
end
term = string.sub(term, 1, ${TERM_LENGTH})
`;

const PRELUDE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What is stored, without its pin.
local function get(key)
  local entry = redis.call('GET', key)
  if entry and string.sub(entry, 1, 1) == 'p' then return string.sub(entry, ${1 + TERM_LENGTH + 36 + 1}) end
  return entry
end

-- The lock in an entry without the holders whose time is over; nil if the entry is not locked.
local function lock_of(entry)
  if not entry or string.sub(entry, 1, 1) ~= 'w' then return nil end
  local ok, lock = pcall(cjson.decode, string.sub(entry, 2))
  if not ok or type(lock) ~= 'table' or type(lock.holders) ~= 'table' then return nil end
  local live = false
  for holder, ends in pairs(lock.holders) do
    if ends <= now then lock.holders[holder] = nil else live = true end
  end
  -- Locks and releases of others may be missing here since.
  if lock.term ~= term then lock.writer = false end
  return live and lock or nil
end

-- Stores what takes a lock's place, or a lock. Out of memory, Redis refuses a script's writes, except those that free
-- memory and those that come after one of them: GETEX counts as such a one. (So would DEL, but while a slot moves to
-- another node of a cluster, a script can't write a key any more once it has deleted it.)
local function put(key, entry, unit, time)
  redis.call('GETEX', key)
  redis.call('SET', key, entry, unit, time)
end

-- Stores a lock until its last holder's end. Even out of memory: it is small, soon gone, and worth it.
local function put_lock(key, lock)
  local last = 0
  for _, ends in pairs(lock.holders) do last = math.max(last, ends) end
  put(key, 'w' .. cjson.encode(lock), 'PXAT', string.format('%.0f', last))
end
`;

/**
 * KEYS: entries. ARGV: token, lease in ms (0: no lease).
 * Returns per entry: the stored string of a value, with `v` and term; 'r' if this reader holds the lease; '' for a miss.
 */
export const READ = script(
  `
local lease_ms, value, leased = ARGV[2], 'v' .. term, 'r' .. term
local lease = leased .. ARGV[1]
local found = {}
for i, key in ipairs(KEYS) do
  local entry = get(key)
  local state = entry and string.sub(entry, 1, 1 + #term)
  if state == value then
    found[i] = entry
  elseif lease_ms == '0' or lock_of(entry) then
    found[i] = ''
  elseif state == leased then
    -- Our own token: the client sent this command again because it lost the reply.
    found[i] = entry == lease and 'r' or ''
  else
    redis.call('SET', key, lease, 'PX', lease_ms)
    found[i] = 'r'
  end
end
-- Changes nothing, but counts as a write: a server that refuses writes refuses this read. It comes last, because Redis
-- doesn't look at its memory again once a script has written.
redis.call('GETEX', KEYS[1])
return found
`,
  // Most reads find values and nothing else.
  `
local entries = {}
for i, key in ipairs(KEYS) do
  local entry = redis.call('GET', key)
  if not entry or string.sub(entry, 1, ${1 + TERM_LENGTH}) ~= 'v' .. term then entries = nil break end
  entries[i] = entry
end
if entries then
  redis.call('GETEX', KEYS[1])
  return entries
end
`,
);

/**
 * KEYS: a sequence. ARGV: nonce to use if there is none, life of the sequence in ms, life of the guard in ms.
 * Returns the guard: 'nonce:term:end'.
 */
export const GUARD = script(`
local nonce = redis.call('GET', KEYS[1]) or ARGV[1]
redis.call('SET', KEYS[1], nonce, 'PX', ARGV[2])
return nonce .. ':' .. term .. ':' .. string.format('%.0f', now + ARGV[3])
`);

/**
 * KEYS: n entries, then the sequences of their guards. ARGV: n, then per entry: the position of its sequence in KEYS
 * (0: a lease), token or guard, what to store ('' gives the lease back), its life in ms.
 * Returns per entry: 1 if it was written, else 0.
 */
export const FILL = script(`
local written = {}
for i = 1, tonumber(ARGV[1]) do
  local key, at = KEYS[i], 4 * i - 2
  local sequence, permit, value, ttl_ms = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local entry = get(key)
  local allowed
  if sequence == 0 then
    allowed = entry == 'r' .. term .. permit
  else
    local nonce, in_term, ends = string.match(permit, '^(.+):(%x+):(%d+)$')
    allowed = nonce and in_term == term and tonumber(ends) > now and nonce == redis.call('GET', KEYS[sequence])
      and not lock_of(entry)
  end
  written[i] = 0
  if allowed and value ~= '' then
    redis.call('SET', key, 'v' .. term .. string.sub(value, 2), 'PX', ttl_ms)
    written[i] = 1
  elseif allowed and sequence == 0 then
    redis.call('DEL', key)
  end
end
return written
`);

/** KEYS: entries. ARGV: holder, life of the lock in ms. */
export const LOCK = script(`
local holder = ARGV[1]
for _, key in ipairs(KEYS) do
  local lock = lock_of(get(key)) or { holders = {}, writer = holder, term = term }
  if lock.writer ~= holder then lock.writer = false end
  lock.holders[holder] = math.max(now + ARGV[2], lock.holders[holder] or 0)
  put_lock(key, lock)
end
return 1
`);

/**
 * KEYS: n entries, then the distinct sequences of their regions. ARGV: n, holder, then per entry: what to write through
 * ('' nothing), its life in ms. Moving the sequences in the same step as the entries: who sees an entry released never
 * sees the sequence from before.
 */
export const RELEASE = script(`
local count, holder = tonumber(ARGV[1]), ARGV[2]
for i = count + 1, #KEYS do redis.call('DEL', KEYS[i]) end
for i = 1, count do
  local key, value, ttl_ms = KEYS[i], ARGV[2 * i + 1], ARGV[2 * i + 2]
  local lock = lock_of(get(key))
  if lock then lock.holders[holder] = nil end
  if lock and next(lock.holders) then
    lock.writer = false
    put_lock(key, lock)
  elseif lock and lock.writer == holder and value ~= '' then
    put(key, 'v' .. term .. string.sub(value, 2), 'PX', ttl_ms)
  else
    redis.call('DEL', key)
  end
end
return 1
`);

/** KEYS: n entries, then the distinct sequences of their regions. ARGV: n. */
export const EVICT = script(`
local count = tonumber(ARGV[1])
for i = count + 1, #KEYS do redis.call('DEL', KEYS[i]) end
for i = 1, count do
  local key = KEYS[i]
  local lock = lock_of(get(key))
  if not lock then
    redis.call('DEL', key)
  elseif lock.writer then
    lock.writer = false
    put_lock(key, lock)
  end
end
return 1
`);
