-- Enqueue an entry that was made through rq-scheduler's API: it is the job itself.  One step, once for each slot.
-- KEYS: rq-scheduler's entries, the job's hash, RQ's set of queues
-- ARGV: id, its time as it was seen, its next time ('': never again), now as RQ writes it, its changed meta or '', RQ's
--       time limit of a job that has none
-- Returns the queue if it was enqueued, or waits for the jobs that it depends on; '' if that slot is done or was moved.
--include lib
local id, coming, job = ARGV[1], ARGV[3], KEYS[2]
local slot = redis.call('ZSCORE', KEYS[1], id)
if not slot or tonumber(slot) ~= tonumber(ARGV[2]) then return '' end

local has = redis.call('HMGET', job, 'origin', 'enqueue_at_front', 'ttl', 'timeout', 'dependency_ids',
  'allow_dependency_failures')
local name = has[1] or 'default'
local queue = RQ .. 'queue:' .. name
if redis.call('HSTRLEN', job, 'data') == 0 then return redis.error_reply('its job has no data') end

local parents, waits = has[5] and has[5] ~= '' and cjson.decode(has[5]) or {}, false
for _, parent in ipairs(parents) do
  local status = redis.call('HGET', RQ .. 'job:' .. parent, 'status')
  local is_enough = not status or status == 'finished' or (status == 'failed' and has[6] == '1')
  waits = waits or not is_enough
end

-- What can fail comes first: nothing is undone when a script ends with an error.
if waits then
  redis.call('ZADD', RQ .. 'deferred:' .. name, redis.call('TIME')[1], id)
  for _, parent in ipairs(parents) do
    redis.call('SADD', RQ .. 'job:' .. parent .. ':dependents', id)
    redis.call('SADD', RQ .. 'job::' .. id .. ':dependencies', parent)
  end
  redis.call('HSET', job, 'status', 'deferred')
else
  redis.call(has[2] == '1' and 'LPUSH' or 'RPUSH', queue, id)
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[4])
  wake(name)
end
redis.call('SADD', KEYS[3], queue)
redis.call('HSETNX', job, 'timeout', ARGV[6])
redis.call('HSETNX', job, 'origin', name)
if ARGV[5] ~= '' then redis.call('HSET', job, 'meta', ARGV[5]) end
if has[3] and has[3] ~= '' then redis.call('EXPIRE', job, has[3]) end
if coming == '' then
  redis.call('ZREM', KEYS[1], id)
else
  redis.call('ZADD', KEYS[1], coming, id)
end
return name
