-- What time it is by Redis' clock: a script may have been sent seconds ago.  Other scripts include this.
-- KEYS: none
-- ARGV: none
-- Returns nothing; it defines time (as TIME returns it), now_s and now_as_text
local time = redis.call('TIME')
local now_s = string.format('%d.%06d', time[1], time[2])

-- As RQ writes it (2026-11-20T13:04:09.123456Z).  Lua here has no dates, so days are counted from March on, where a
-- year's leap day is its last.
local function now_as_text()
  local floor, seconds = math.floor, tonumber(time[1])
  local day = floor(seconds / 86400) + 719468  -- since 0000-03-01
  local era = floor(day / 146097)
  local day_of_era = day - era * 146097
  local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
    - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * day_of_year + 2) / 153)
  local day_of_month = day_of_year - floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  year = year + era * 400 + (month <= 2 and 1 or 0)
  seconds = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day_of_month,
    floor(seconds / 3600), floor(seconds / 60) % 60, seconds % 60, time[2])
end
