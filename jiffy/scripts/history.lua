-- History: what became of attempts, counted by the minute until a supervisor packs that minute (history.py).
-- Goes with lib.lua; expects no KEYS and ARGV of its own.
local MOST_COUNTS = 5000  -- of one minute: however many functions there are, it stays small

-- `group`: how the attempt ended, the buckets of how long it waited and ran (-1: unknown), then its function, or '?'.
local function count_attempts(queue, id, group, count, ran_s)
  local minute = OWN .. 'history:now:' .. math.floor(NOW / 60)
  local size = own('HLEN', minute)
  local what, func = string.match(group, '^(%S+ %S+ %S+) (.*)$')
  if func == '?' then func = string.match((fields(job_key(id), 'data') or {})[1] or '', '^%["([%w_.]+)"') end
  if not func or #func > 300 then func = 'other' end
  local name = size > MOST_COUNTS and 'other\nother' or func .. '\n' .. queue
  own('HINCRBY', minute, what .. ' ' .. name, count)
  local ran_ms = string.format('%.0f', ran_s * 1000)
  if ran_ms ~= '0' then own('HINCRBY', minute, 'ran_ms - - ' .. name, ran_ms) end
  if size == 0 then call('EXPIRE', minute, 1800) end
end
