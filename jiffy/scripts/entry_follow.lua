-- Look what became of the jobs of ticks, and complete the entries' history: a job's own path has no part in that.
-- KEYS: the open ticks
-- ARGV: how many at most
-- Returns how many were looked at, then for each that is over: entry id, the entry's name, the line of the history as it is now
--include lib
local time = redis.call('TIME')
local now_s = string.format('%d.%06d', time[1], time[2])
local is_over = {finished = true, failed = true, stopped = true, canceled = true}
local SOONEST_S, LATEST_S = 1, 60

-- Days are counted from March on, where a year's leap day is its last.
local function seconds(text)
  local year, month, day, hour, minute, second = string.match(text or '', '^(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z$')
  if not year then return nil end
  year, month = month + 0 > 2 and year or year - 1, (month + 9) % 12
  local days = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * month + 2) / 5) + day
  return days * 86400 + hour * 3600 + minute * 60 + second
end

-- How it ended, after how many milliseconds, and why; nil if it has not.  Of a job that is gone nobody knows: do not guess.
local function ending(job)
  local found = redis.call('HMGET', RQ .. 'job:' .. job, 'status', 'started_at', 'ended_at', 'jiffy:reason')
  if is_over[found[1]] then
    local began, ended = seconds(found[2]), seconds(found[3])
    local took = began and ended and string.format('%.0f', (ended - began) * 1000) or ''
    -- In the others it says why they were tried again, and of that the last line is enough.
    local reason = found[1] == 'canceled' and found[4]
    return found[1], took, reason and string.match(reason, '[^\n]*$') or nil
  end
  if found[1] or redis.call('EXISTS', RQ .. 'job:' .. job) == 1 then return nil end
  return 'gone', ''
end

local function complete(entry, job, line)
  local status, took_ms, reason = ending(job)
  if not status then return nil end
  local head, said = string.match(line, '^(%a|[^|]*|[^|]*|)[^|]*|[^|]*|(.*)$')
  if reason then said = string.sub(reason, 1, 150) end
  local complete_line = head .. status .. '|' .. took_ms .. '|' .. said
  local place = redis.call('LPOS', OWN .. 'ticks:' .. entry, line)
  if place then redis.call('LSET', OWN .. 'ticks:' .. entry, place, complete_line) end
  return complete_line
end

local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_s, 'LIMIT', 0, ARGV[1])
local answer = {#members}
for _, member in ipairs(members) do
  local entry, job, line = string.match(member, '^(%S+) (%S+) (.*)$')
  local line_now = complete(entry, job, line)
  if line_now then
    redis.call('ZREM', KEYS[1], member)
    local name = redis.call('HGET', RQ .. 'job:' .. entry, 'jiffy:tick_of') or entry
    for _, value in ipairs({entry, name, line_now}) do answer[#answer + 1] = value end
  else
    local age = now_s - string.match(line, '|([%d.]+)')
    redis.call('ZADD', KEYS[1], now_s + math.min(math.max(age / 4, SOONEST_S), LATEST_S), member)
  end
end
return answer
