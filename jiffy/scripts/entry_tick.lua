-- Put the job of one tick on its queue and move its entry on, in one step and once for each slot.
-- KEYS: rq-scheduler's entries, the entry's hash, the job's hash, its queue, RQ's set of queues
-- ARGV: entry id, slot, next slot or '', job id, RPUSH or LPUSH, seconds to live or '', fields, values
-- Returns 1 if the job was enqueued, 0 if that slot is done or the entry was moved or taken away.
local slot = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not slot or tonumber(slot) ~= tonumber(ARGV[2]) then return 0 end

-- A job of that very slot is there: the entry's time was set back by hand.  It only moves on.
local done = KEYS[2] ~= KEYS[3] and redis.call('EXISTS', KEYS[3]) == 1
if not done then
  -- What can fail comes first: nothing is undone when a script ends with an error.
  redis.call('SADD', KEYS[5], KEYS[4])
  redis.call(ARGV[5], KEYS[4], ARGV[4])
  redis.call('HSET', KEYS[3], unpack(ARGV, 7))
  if ARGV[6] ~= '' then redis.call('EXPIRE', KEYS[3], ARGV[6]) end
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return done and 0 or 1
