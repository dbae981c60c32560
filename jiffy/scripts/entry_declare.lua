-- Make an entry of the schedule what the table says.
-- KEYS: rq-scheduler's entries, the entry's hash, its state, its history, the ids of declared entries, who to wake
-- ARGV: entry id, its next time as the caller knows it ('': none), its next time from now on ('': never again), how many
--       ticks at most (0: no end), a JSON list of lines for its history, 1 if it is only to be there again where somebody
--       deleted it, fields and values of its hash, these first: definition, timing, policy, times
-- Returns 'new', 'changed', 'same', or 'over' (none of its times is left), and how many of the lines were written; or
--         'listed', its next time, its timing and its policy as they are: what becomes of that is for the caller to say
--include lib
local id, seen, coming, most, lines = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cjson.decode(ARGV[5])
local definition, timing, policy, times = ARGV[8], ARGV[10], ARGV[12], ARGV[14]

-- What somebody made another type of would stop this at each start.
for i, kind in pairs({[2] = 'hash', [3] = 'hash', [4] = 'list', [5] = 'set', [6] = 'list'}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', KEYS[i]) end
end

local was = redis.call('HMGET', KEYS[2], ARGV[7], ARGV[9], ARGV[11], ARGV[13])
local listed = redis.call('ZSCORE', KEYS[1], id)
if ARGV[6] == '1' and (was[1] or not listed) then return {'same', 0} end
local state = redis.call('HMGET', KEYS[3], 'done', 'counted', 'ticks')
local has_repeated = most > 0 and state[2] == times and (tonumber(state[3]) or 0) >= most
local is_done = has_repeated or state[1] == times
local is_same = was[1] == definition and was[2] == timing and was[3] == policy and was[4] == times
-- A Redis that is full refuses this, before anything is deleted.
redis.call('SADD', KEYS[5], id)
if is_same and (is_done or listed) then return {'same', 0} end
if not is_done and tonumber(listed or '') ~= tonumber(seen) then
  return {'listed', listed or '', was[2] or '', was[3] or ''}
end

redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 7))
redis.call('PERSIST', KEYS[3])
redis.call('PERSIST', KEYS[4])
if most == 0 then redis.call('HDEL', KEYS[3], 'counted', 'ticks') end
local verdict = was[1] and 'changed' or 'new'
if is_done then
  redis.call('ZREM', KEYS[1], id)
  return {verdict, 0}
end

if #lines > 0 then
  redis.call('LPUSH', KEYS[4], unpack(lines))
  redis.pcall('HINCRBY', OWN .. 'tick_counts', 'missed', #lines)
end
if coming == '' then
  redis.call('HSET', KEYS[3], 'done', times)
  redis.call('ZREM', KEYS[1], id)
  return {'over', #lines}
end
redis.call('ZADD', KEYS[1], coming, id)
if redis.call('LLEN', KEYS[6]) == 0 then redis.call('LPUSH', KEYS[6], 1) end
return {verdict, #lines}
