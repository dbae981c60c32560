-- Move scheduled jobs (delayed ones, retries with an interval) whose time has come to their queues.
-- KEYS: the queues
-- ARGV: how many at most from each queue, the time limit of a job that has none in s
-- Returns how many
--include put
local moved = 0
for _, queue in ipairs(KEYS) do
  local name = string.sub(queue, 10)
  local is_list = type(redis.pcall('LLEN', queue)) == 'number'
  -- Where RQ's own scheduler is at work, it does this, and not in one step: two would double jobs.
  if is_list and redis.call('EXISTS', 'rq:scheduler-lock:' .. name) == 0 then
    local scheduled = 'rq:scheduled:' .. name
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', time[1], 'LIMIT', 0, ARGV[1])) do
      redis.call('ZREM', scheduled, id)
      local job = 'rq:job:' .. id
      local kind = redis.call('TYPE', job).ok
      if kind == 'hash' then
        redis.call('HSETNX', job, 'timeout', ARGV[2])
        put(id, name)
      elseif kind ~= 'none' then  -- whoever takes it fails it, with the reason
        redis.call('RPUSH', queue, id)
        wake(name)
      end
      if kind ~= 'none' then moved = moved + 1 end
    end
  end
end
return moved
