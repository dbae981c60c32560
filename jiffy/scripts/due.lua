-- Move scheduled jobs (delayed ones, retries with an interval) whose time has come to their queues.
-- KEYS: the queues
-- ARGV: now as text, how many at most from each queue, the time limit of a job that has none in s
-- Returns how many
--include wake
local time, moved = redis.call('TIME'), 0
for _, queue in ipairs(KEYS) do
  local name = string.sub(queue, 10)
  local is_list = type(redis.pcall('LLEN', queue)) == 'number'
  -- Where RQ's own scheduler is at work, it does this, and not in one step: two would double jobs.
  if is_list and redis.call('EXISTS', 'rq:scheduler-lock:' .. name) == 0 then
    local scheduled = 'rq:scheduled:' .. name
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', time[1], 'LIMIT', 0, ARGV[2])) do
      redis.call('ZREM', scheduled, id)
      local job = 'rq:job:' .. id
      local fields = redis.pcall('HMGET', job, 'data', 'timeout', 'enqueue_at_front',
        'enqueue_at_front_on_retry', 'ended_at')
      if fields.err or redis.call('EXISTS', job) == 1 then
        local is_front = false
        if not fields.err then
          redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[1])
          if not fields[2] then redis.call('HSET', job, 'timeout', ARGV[3]) end
          local ran = fields[5] and fields[5] ~= ''
          is_front = fields[3] == '1' or (fields[4] == '1' and ran)
        end
        redis.call(is_front and 'LPUSH' or 'RPUSH', queue, id)
        redis.call('SADD', 'rq:queues', queue)
        moved = moved + 1
      end
    end
    if moved > 0 then wake(name) end
  end
end
return moved
