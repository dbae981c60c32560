-- Make an entry of the schedule what the table says; one whose timing is unchanged keeps its next time.
-- KEYS: rq-scheduler's entries, the entry's hash
-- ARGV: entry id, its next time if it has none to keep ('' for never again), fields and values of the hash, these first: definition, timing
-- Returns 'new', 'changed' or 'same'.
local was = redis.call('HMGET', KEYS[2], ARGV[3], ARGV[5])
local listed = redis.call('ZSCORE', KEYS[1], ARGV[1])
local same_timing = was[2] == ARGV[6] and (listed or ARGV[2] == '')
if same_timing and was[1] == ARGV[4] then return 'same' end

redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
if ARGV[2] == '' and not same_timing then
  redis.call('ZREM', KEYS[1], ARGV[1])
elseif not same_timing then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
return listed and 'changed' or 'new'
