-- Put a job that failed, was stopped or canceled back to its queue, in one step; wake a worker that sleeps.
-- KEYS: the job
-- ARGV: its id, the time limit of a job that has none in s
-- Returns the status that the job had ('' for none), and 1 if it was put back by this call, else 0
--include put
--include expiring
local job, id = KEYS[1], ARGV[1]
if redis.call('TYPE', job).ok ~= 'hash' then return {'', 0} end
local fields = redis.call('HMGET', job, 'status', 'origin', 'allow_dependency_failures', 'ttl')
local status, name = fields[1] or 'unknown', fields[2] or ''
-- A part of a chain or group that never had what the others return (see join.lua).
if status == 'canceled' and string.find(redis.call('HGET', job, 'data') or '', '{"jiffy:result": true}', 1, true) then
  return {status, 0}
end
local registries = {failed = 'failed', stopped = 'failed', canceled = 'canceled'}
if not registries[status] or name == '' then return {status, 0} end

-- One that was canceled as it waited for others waits on, as long as one of them is not over.
local function waits()
  for _, parent in ipairs(redis.call('SMEMBERS', 'rq:job::' .. id .. ':dependencies')) do
    local is = redis.call('HGET', 'rq:job:' .. parent, 'status')
    if is and is ~= 'finished' and not (is == 'failed' and fields[3] == '1') then return true end
  end
end

-- What can fail comes first: nothing is undone when a script ends with an error.
redis.call('LLEN', 'rq:queue:' .. name)
redis.call('SADD', 'rq:queues', 'rq:queue:' .. name)
redis.call('ZREM', 'rq:' .. registries[status] .. ':' .. name, id)
redis.call('PERSIST', job)
if status == 'canceled' and waits() then
  redis.call('ZADD', 'rq:deferred:' .. name, redis.call('TIME')[1], id)
  redis.call('HSET', job, 'status', 'deferred')
  if fields[4] and fields[4] ~= '' then redis.pcall('EXPIRE', job, fields[4]) end
else
  redis.call('HSET', job, 'started_at', '', 'ended_at', '')
  redis.call('HSETNX', job, 'timeout', ARGV[2])
  put(id, name, false)
end
-- Workers that died of it count anew: somebody has looked.
redis.call('HDEL', job, 'jiffy:rescues', 'jiffy:causes', 'jiffy:reason', 'jiffy:broken_by', 'jiffy:progress', 'exc_info')
look_when_expired(id)
return {status, 1}
