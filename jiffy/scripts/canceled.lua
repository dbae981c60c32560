-- Write down that a job is canceled, as RQ does, and why; it is kept as long as what failed.  Other scripts include this.
-- KEYS: none: it is told of jobs and queues by name
-- ARGV: none
-- Returns nothing; it defines note_canceled

local function note_canceled(queue, id, reason)
  local registry, job = 'rq:canceled:' .. queue, 'rq:job:' .. id
  redis.call('ZADD', registry, redis.call('TIME')[1], id)
  redis.call('HSET', job, 'status', 'canceled', 'jiffy:reason', reason)
  local ttl = tonumber(redis.call('HGET', job, 'failure_ttl')) or 31536000
  if ttl >= 0 then redis.pcall('EXPIRE', job, math.max(ttl, 1)) end
  -- RQ never tidies this registry up: whoever adds one takes away two that are gone.
  for _, oldest in ipairs(redis.call('ZRANGE', registry, 0, 1)) do
    if redis.call('EXISTS', 'rq:job:' .. oldest) == 0 then redis.call('ZREM', registry, oldest) end
  end
end

