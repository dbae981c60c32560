-- Write a job that waits for others, and whom it waits for, in one step and once; they are written after it.
-- KEYS: the queue that it will go on
-- ARGV: queue's name, job id, what it needs of the others (success: of the one; end), seconds until the producer will
--       have written them all or '' (it has, in this transaction), seconds to remember this or '', its data if there is
--       a place in it for what they return or '', the number of the first of these others, how many, their ids, then
--       fields and values of the job
-- Returns nothing
--include lib
local name, id, first = ARGV[1], ARGV[2], 9 + ARGV[8]
local job, join, pending = RQ .. 'job:' .. id, OWN .. 'join:' .. id, OWN .. 'pending:' .. id
local now = time[1]
local sent = ARGV[5] ~= '' and OWN .. 'sent:' .. id
if redis.call('EXISTS', job) == 0 then
  if sent and redis.call('EXISTS', sent) == 1 then return end  -- this is heard again, and it is over and gone
  -- What can fail comes first: nothing is undone when a script ends with an error.
  redis.call('SADD', RQ .. 'queues', KEYS[1])
  redis.call('ZADD', RQ .. 'deferred:' .. name, now, id)
  redis.call('HSET', job, unpack(ARGV, first))
  redis.call('HSET', join, 'queue', name, 'needs', ARGV[3])
  if ARGV[6] ~= '' then redis.call('HSET', join, 'data', ARGV[6]) end
  redis.call('ZADD', OWN .. 'joins', now, id)
  if sent then redis.call('SET', sent, 1, 'EX', ARGV[5]) end
elseif redis.call('EXISTS', join) == 0 then
  return  -- this is heard again, and it waits no more
end
if ARGV[4] ~= '' then redis.call('ZADD', pending, -(now + ARGV[4]), '') end
for i = 9, first - 1 do redis.call('ZADD', pending, ARGV[7] + i - 9, ARGV[i]) end
redis.call('HSET', join, 'count', ARGV[7] + ARGV[8])
