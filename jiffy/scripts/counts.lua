-- Count every queue's jobs and what serves them, for all pages at once.
-- KEYS: the set of queues, the set of workers, the schedule's entries, the hashes of pauses and of ignored failures, the
--       scheduler's lead, the mark that suspends workers
-- ARGV: the most queues and workers to look at; the prefixes of the registries
-- Returns which of the first KEYS hold another type, each with the one it should have; the time (nil: not permitted); how
--         many queues and workers are named, how many of the workers looked at are alive; how many workers share each set
--         of queues, state and release ('\0' between); for each queue: its key, how many jobs wait (nil: its key holds
--         another type), when the oldest that is still there was enqueued, the registries' counts; the sorted sets of jobs that stand in none
--         of these: the state that they are in, its key, how many they are; how many entries are to run, when the first
--         does, whether a scheduler is alive, whether workers are suspended; what is paused and what is ignored
local RQ, OWN, most, odd = '@RQ@', '@OWN@', tonumber(ARGV[1]), {}
-- The answer, or what stands for it where the key holds another type, which is named if its `kind` is given.
local function ask(otherwise, kind, ...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then return found end
  if kind and string.find(found.err, 'WRONGTYPE') then odd[#odd + 1] = {select(2, ...), kind} end
  return otherwise
end
local function count(command, key) return ask(false, nil, command, key) end
local function members(key) return ask({}, nil, 'SRANDMEMBER', key, most) end

-- Queues that workers listen to are counted first: no number of others hides these.
local counted, is_known = {}, {}
local function list(queue)
  if #counted < most and not is_known[queue] then counted[#counted + 1] = queue end
  is_known[queue] = true
end

-- The hash of a dead worker stays for minutes where no supervisor is left to recover what it held.
local time, is_dead = redis.pcall('TIME'), {}
local over = time[1] and time[1] - 5 or '-inf'  -- after an outage of Redis, those who live renew their leases first
for _, name in ipairs(ask({}, nil, 'ZRANGEBYSCORE', OWN .. 'leases', '-inf', over, 'LIMIT', 0, most)) do
  is_dead[RQ .. 'worker:' .. name] = true
end
local alive, kinds, listed = 0, {}, {}
for _, worker in ipairs(members(KEYS[2])) do
  local found = is_dead[worker] and {} or redis.pcall('HMGET', worker, 'queues', 'state', 'jiffy:release', 'jiffy:quiet')
  if found[1] or found[2] then
    alive = alive + 1
    if found[4] == 'yes' then found[1] = '' end  -- it starts no jobs until it is resumed
    for j = 1, 3 do found[j] = string.gsub(string.sub(found[j] or '', 1, 16384), '%z', '') end
    local kind = table.concat(found, '\0', 1, 3)
    kinds[kind] = (kinds[kind] or 0) + 1
  end
end
local heard, is_asked = {}, {}
for kind, number in pairs(kinds) do
  listed[#listed + 1] = {kind, number}
  for name in string.gmatch(string.match(kind, '^%Z*'), '[^,]+') do
    local queue = RQ .. 'queue:' .. name
    if #heard < most and not is_asked[queue] then heard[#heard + 1] = queue end
    is_asked[queue] = true
  end
end
local are_queues = #heard > 0 and ask({}, nil, 'SMISMEMBER', KEYS[1], unpack(heard)) or {}
for i, queue in ipairs(heard) do
  if are_queues[i] == 1 then list(queue) end
end
for _, queue in ipairs(members(KEYS[1])) do list(queue) end
local queues, apart, looks_left = {}, {}, 5000
local function stand_apart(state, key)
  local number = count('ZCARD', key)
  if number and number > 0 then apart[#apart + 1] = {state, key, number} end
end
for _, limit in ipairs(members(RQ .. 'rl-keys')) do stand_apart('rate_limited', RQ .. 'rl:' .. limit .. ':rate_limited') end
for _, path in ipairs(members(OWN .. 'parked')) do stand_apart('queued', OWN .. 'parked:' .. path) end
for i, key in ipairs(counted) do
  local queue, waiting, since = string.sub(key, #RQ + #'queue:' + 1), count('LLEN', key), false
  local at = 0
  -- The id of a job whose time to live is over stays on its queue until its turn comes.
  while at < (waiting or 0) and type(since) ~= 'string' and (at == 0 or looks_left > 0) do
    since = redis.pcall('HGET', RQ .. 'job:' .. redis.call('LINDEX', key, at), 'enqueued_at')
    at, looks_left = at + 1, looks_left - 1
  end
  queues[i] = {key, waiting, type(since) == 'string' and #since < 64 and since}
  for j = 2, #ARGV do queues[i][j + 2] = count('ZCARD', ARGV[j] .. queue) end
  stand_apart('ready_to_enqueue', RQ .. 'ready:' .. queue)
end
local sizes = {ask(0, 'set', 'SCARD', KEYS[1]), ask(0, 'set', 'SCARD', KEYS[2]), ask(0, 'sorted set', 'ZCARD', KEYS[3])}
local first = sizes[3] > 0 and redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local paused, ignored = ask({}, 'hash', 'HGETALL', KEYS[4]), ask({}, 'hash', 'HGETALL', KEYS[5])
local now = time[1] and string.format('%d.%06d', time[1], time[2])
return {odd, now or false, sizes[1], sizes[2], alive, listed, queues, apart, sizes[3], first or false,
  redis.call('EXISTS', KEYS[6]), redis.call('EXISTS', KEYS[7]), paused, ignored}
