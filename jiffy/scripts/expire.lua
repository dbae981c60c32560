-- What `expires` does to a job that has waited for too long; other scripts include this.
-- KEYS: none: it is told of jobs and queues by name
-- ARGV: none
-- Returns nothing; it defines waited_s and expire
--include canceled
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

-- Cancel what is off its queue and has not begun in time.  Returns the reason.
local function expire(queue, id, after_s)
  local size, unit = 1, ' s'
  for s, letter in pairs({[60] = 'm', [3600] = 'h', [86400] = 'd'}) do
    if after_s % s == 0 and s > size then size, unit = s, letter end
  end
  local reason = string.format('It had not begun %d%s after it was enqueued, so it expired.', after_s / size, unit)
  note_canceled(queue, id, reason)
  return reason
end
