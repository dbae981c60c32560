-- Fail a job that cannot be read: its data is left as it is, its reason stands in its results.
-- KEYS: started registry, failed registry, job, results
-- ARGV: id, execution, worker, now as text, now in s, ttl in s, the reason as RQ packs it
-- Returns 1, or 0 where the execution is not (or no longer) the worker's own: then nothing is written

local id, execution = ARGV[1], ARGV[2]
if redis.call('ZREM', KEYS[1], id .. ':' .. execution) == 0 then return 0 end
redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
redis.call('ZREM', 'rq:executions:' .. id, execution)
redis.call('SREM', 'rq:worker:' .. ARGV[3] .. ':executions', id .. ':' .. execution)
if redis.call('TYPE', KEYS[3]).ok == 'hash' then
  redis.call('HSET', KEYS[3], 'status', 'failed', 'ended_at', ARGV[4], 'worker_name', ARGV[3])
  redis.call('EXPIRE', KEYS[3], ARGV[6])
end
redis.call('ZADD', KEYS[2], ARGV[5] + ARGV[6], id)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10, '*', 'type', 2, 'worker_name', ARGV[3],
  'exc_string', ARGV[7], 'execution_id', execution, 'execution_ended_at', ARGV[5])
redis.call('EXPIRE', KEYS[4], ARGV[6])
return 1
