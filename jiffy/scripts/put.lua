-- Put a job that may run now on its queue, as RQ does, and wake a worker that sleeps; other scripts include this.
-- KEYS: none: it is told of jobs and queues by name
-- ARGV: none
-- Returns nothing; it defines put and put_ready
--include wake
--include now

-- `is_front` is nil where the job itself says on which end of the queue it goes.
local function put(id, name, is_front)
  local job, queue = 'rq:job:' .. id, 'rq:queue:' .. name
  local own = redis.call('HMGET', job, 'ttl', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at')
  if is_front == nil then
    local has_run = own[4] and own[4] ~= ''
    is_front = own[2] == '1' or (own[3] == '1' and has_run)
  end
  -- What can fail comes first: nothing is undone when a script ends with an error.
  redis.call(is_front and 'LPUSH' or 'RPUSH', queue, id)
  redis.call('SADD', 'rq:queues', queue)
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now_as_text())
  if own[1] and own[1] ~= '' then redis.pcall('EXPIRE', job, own[1]) end
  wake(name)
end

-- One whose dependencies are met: RQ's ReadyJobRegistry holds it, and whoever takes it out puts it on its queue.
local function put_ready(id, name)
  local ready = 'rq:ready:' .. name
  if not redis.call('ZSCORE', ready, id) then return end
  if redis.call('HGET', 'rq:job:' .. id, 'status') == 'ready_to_enqueue' then put(id, name) end
  redis.call('ZREM', ready, id)
end
