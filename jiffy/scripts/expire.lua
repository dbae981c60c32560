-- What `expires` does to a job that has waited for too long; other scripts include this.
-- KEYS: none: it is told of jobs and queues by name
-- ARGV: none
-- Returns nothing; it defines waited_s and expire

-- For how long a job has been on its queue; nil if it has begun before, or if nobody knows.
local function waited_s(job, now_s)
  local times = redis.call('HMGET', job, 'enqueued_at', 'started_at')
  local text = (not times[2] or times[2] == '') and times[1] or ''
  local year, month, day, hour, minute, second = string.match(text,
    '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d[.%d]*)Z$')
  if not tonumber(second) then return nil end
  -- Days are counted from March on, where a year's leap day is its last.
  if tonumber(month) < 3 then year, month = year - 1, month + 12 end
  local days = 365 * year + math.floor(year / 4) - math.floor(year / 100)
    + math.floor(year / 400) + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
  return now_s - (((days * 24 + hour) * 60 + minute) * 60 + second)
end

-- Cancel, as RQ does, what is off its queue and has not begun in time; kept as long as what failed.  Returns the reason.
local function expire(queue, id, after_s)
  local job, size, unit = 'rq:job:' .. id, 1, ' s'
  for s, letter in pairs({[60] = 'm', [3600] = 'h', [86400] = 'd'}) do
    if after_s % s == 0 and s > size then size, unit = s, letter end
  end
  local reason = string.format('It had not begun %d%s after it was enqueued, so it expired.', after_s / size, unit)
  redis.call('ZADD', 'rq:canceled:' .. queue, redis.call('TIME')[1], id)
  redis.call('HSET', job, 'status', 'canceled', 'jiffy:reason', reason)
  local ttl = tonumber(redis.call('HGET', job, 'failure_ttl')) or 31536000
  if ttl > 0 then redis.pcall('EXPIRE', job, ttl) end
  return reason
end
