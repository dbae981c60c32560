-- Make an entry of the schedule what the table says; one whose times are unchanged keeps its next time.
-- KEYS: rq-scheduler's entries, the entry's hash, its state, its history, the ids of declared entries, who to wake
-- ARGV: entry id, its next time if it has none to keep ('': never again), how many ticks at most (0: no end), a line for
--       its history if it comes too late or '', fields and values of its hash, these first: definition, timing
-- Returns 'new', 'changed', 'same', or 'over': it was not known, or its times have changed, and none of them is left.
local id, coming, most, late, timing = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[8]
local was = redis.call('HMGET', KEYS[2], ARGV[5], ARGV[7])
local listed = redis.call('ZSCORE', KEYS[1], id)
local state = redis.call('HMGET', KEYS[3], 'done', 'ticks')
local has_repeated = most > 0 and tonumber(state[2] or 0) >= most and (not was[2] or was[2] == timing)
local is_done = has_repeated or state[1] == timing
local keeps_time = is_done or (listed and was[2] == timing)
if keeps_time and was[1] == ARGV[6] and was[2] == timing then return 'same' end

redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
redis.call('SADD', KEYS[5], id)
redis.call('PERSIST', KEYS[3])
redis.call('PERSIST', KEYS[4])
local verdict = was[1] and 'changed' or 'new'
if keeps_time then return verdict end

-- Other times: a count of them begins anew.
if was[2] and was[2] ~= timing then redis.call('HDEL', KEYS[3], 'ticks') end
if coming ~= '' then
  redis.call('ZADD', KEYS[1], coming, id)
  if redis.call('LLEN', KEYS[6]) == 0 then redis.call('LPUSH', KEYS[6], 1) end
  return verdict
end
redis.call('HSET', KEYS[3], 'done', timing)
redis.call('ZREM', KEYS[1], id)
if late ~= '' then
  redis.call('LPUSH', KEYS[4], late)
  redis.call('HINCRBY', 'jiffy:tick_counts', 'missed', 1)
end
return 'over'
