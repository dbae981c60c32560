-- Write a job that waits for others, and whom it waits for, in one step and once; they are written after it.
-- KEYS: the queue that it will go on
-- ARGV: queue's name, job id, what it needs of the others (success: of the one; end), seconds until the producer will
--       have written them all or '' (it has, in this transaction), its data if there is a place in it for what they
--       return or '', the number of the first of these others, how many, their ids, then fields and values of the job
-- Returns nothing

local name, id, first = ARGV[1], ARGV[2], 8 + ARGV[7]
local job, join, pending = 'rq:job:' .. id, 'jiffy:join:' .. id, 'jiffy:pending:' .. id
local now = redis.call('TIME')[1]
if redis.call('EXISTS', job) == 0 then
  -- What can fail comes first: nothing is undone when a script ends with an error.
  redis.call('SADD', 'rq:queues', KEYS[1])
  redis.call('ZADD', 'rq:deferred:' .. name, now, id)
  redis.call('HSET', job, unpack(ARGV, first))
  redis.call('HSET', join, 'queue', name, 'needs', ARGV[3])
  if ARGV[5] ~= '' then redis.call('HSET', join, 'data', ARGV[5]) end
  redis.call('ZADD', 'jiffy:joins', now, id)
  local expires = redis.call('HGET', job, 'jiffy:expires')
  if expires then redis.call('ZADD', 'jiffy:expiring', now + expires, id) end
elseif redis.call('EXISTS', join) == 0 then
  return  -- this is heard again, and it waits no more
end
if ARGV[4] ~= '' then redis.call('ZADD', pending, -(now + ARGV[4]), '') end
for i = 8, first - 1 do redis.call('ZADD', pending, ARGV[6] + i - 8, ARGV[i]) end
redis.call('HSET', join, 'count', ARGV[6] + ARGV[7])
