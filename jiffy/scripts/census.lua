-- Count every queue's jobs and what serves them, for all pages at once.
-- KEYS: the set of queues, the set of workers, the scheduler's lead, the schedule's entries, the mark that suspends workers
-- ARGV: the most queues and workers to look at; the prefixes of the registries
-- Returns how many queues and workers are named, how many of the workers looked at are alive, whether a scheduler is alive,
--         how many entries are to run, whether workers are suspended; how many workers share each set of queues, state and
--         release ('\0' between); and for each queue: its key, how many jobs wait (false: its key holds another type), when
--         the oldest was enqueued, the registries' counts; and the sorted sets of jobs that stand in none of these: the state
--         that they are in, its key, how many they are
local RQ, OWN, most = '@RQ@', '@OWN@', tonumber(ARGV[1])
local function count(command, key)
  local found = redis.pcall(command, key)
  return type(found) == 'number' and found
end
local function members(key)
  local found = redis.pcall('SRANDMEMBER', key, most)
  return found.err and {} or found
end

local alive, kinds, listed = 0, {}, {}
for _, worker in ipairs(members(KEYS[2])) do
  local found = redis.pcall('HMGET', worker, 'queues', 'state', 'jiffy:release')
  if found[1] or found[2] then
    alive = alive + 1
    for j = 1, 3 do found[j] = string.gsub(string.sub(found[j] or '', 1, 16384), '%z', '') end
    local kind = table.concat(found, '\0')
    kinds[kind] = (kinds[kind] or 0) + 1
  end
end
for kind, number in pairs(kinds) do listed[#listed + 1] = {kind, number} end
local queues, apart = {}, {}
local function stand_apart(state, key)
  local number = count('ZCARD', key)
  if number and number > 0 then apart[#apart + 1] = {state, key, number} end
end
for _, limit in ipairs(members(RQ .. 'rl-keys')) do stand_apart('rate_limited', RQ .. 'rl:' .. limit .. ':rate_limited') end
for _, path in ipairs(members(OWN .. 'parked')) do stand_apart('queued', OWN .. 'parked:' .. path) end
for i, key in ipairs(members(KEYS[1])) do
  local queue, waiting, since = string.sub(key, #RQ + #'queue:' + 1), count('LLEN', key), false
  if waiting and waiting > 0 then
    since = redis.pcall('HGET', RQ .. 'job:' .. redis.call('LINDEX', key, 0), 'enqueued_at')
  end
  queues[i] = {key, waiting, type(since) == 'string' and #since < 64 and since}
  for j = 2, #ARGV do queues[i][j + 2] = count('ZCARD', ARGV[j] .. queue) end
  stand_apart('ready_to_enqueue', RQ .. 'ready:' .. queue)
end
return {count('SCARD', KEYS[1]), count('SCARD', KEYS[2]), alive, redis.call('EXISTS', KEYS[3]),
  count('ZCARD', KEYS[4]), redis.call('EXISTS', KEYS[5]), listed, queues, apart}
