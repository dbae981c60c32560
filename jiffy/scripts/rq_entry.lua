-- Enqueue an entry that was made through rq-scheduler's API: it is the job itself.  One step, once for each slot.
-- KEYS: rq-scheduler's entries
-- ARGV: id, its time as it was seen, its next time ('': never again), its changed meta or '', RQ's default time limit
-- Returns the queue if it was enqueued, or waits for the jobs that it depends on; '' if that slot is done or was moved.
--include lib
--include waiting
local id, coming, key = ARGV[1], ARGV[3], job_key(ARGV[1])
local slot = call('ZSCORE', KEYS[1], id)
if not slot or tonumber(slot) ~= tonumber(ARGV[2]) then return '' end
if call('HSTRLEN', key, 'data') == 0 then return redis.error_reply('its job has no data') end

local queue, front, depends, may_fail = unpack(fields(key, 'origin', 'enqueue_at_front', 'dependency_ids',
  'allow_dependency_failures'))
queue = queue or 'default'
call('HSETNX', key, 'timeout', ARGV[5])
call('HSETNX', key, 'origin', queue)
if ARGV[4] ~= '' then call('HSET', key, 'meta', ARGV[4]) end
local parents = depends and cjson.decode(depends) or {}
if #parents > 10 * MOST_KEYS then return redis.error_reply('it depends on over 10,000 jobs') end
for _, parent in ipairs(parents) do
  call('SADD', job_key(parent) .. ':dependents', id)
  call('SADD', RQ .. 'job::' .. id .. ':dependencies', parent)
end
looks_left = 10 * looks_left  -- at all of them
if is_met(id, may_fail == '1') then
  if not enqueue(queue, id, front == '1') then
    return redis.error_reply('the key of its queue is of another type')
  end
  for _, parent in ipairs(parents) do call('SREM', job_key(parent) .. ':dependents', id) end
else
  call('ZADD', RQ .. 'deferred:' .. queue, NOW, id)
  call('HSET', key, 'status', 'deferred')
end
if coming == '' then call('ZREM', KEYS[1], id) else call('ZADD', KEYS[1], coming, id) end
return queue
