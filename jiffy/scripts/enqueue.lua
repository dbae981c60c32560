-- Write jobs and put them on their queue, or among those for later; wake workers that sleep.
-- KEYS: see write.lua
-- ARGV: see write.lua
-- Returns 1, or for each job that is not written its place, from 0, and the id of the job that is there in its stead
local RQ, OWN, call = '@RQ@', '@OWN@', redis.call
local status, last, needs = ARGV[2] == 'ZADD' and 'scheduled' or 'queued', #ARGV, ''
local wakes = OWN .. 'wake:' .. ARGV[1]
local is_awake = status == 'scheduled' or call('LLEN', wakes) > 0
--include write
if status == 'scheduled' then
  for _, id in ipairs(ids) do call('ZADD', RQ .. 'scheduled:' .. name, score, id) end
elseif #ids > 0 then
  call(how, KEYS[1], unpack(ids))
  if not is_awake then
    for _ = 1, math.min(#ids, 32) do call('LPUSH', wakes, 1) end
  end
end
if ARGV[8] == 'jiffy:expires' then
  -- In the order of the queue, so that those at its front are looked at first.
  local time, step = call('TIME'), how == 'LPUSH' and -1e-6 or 1e-6
  for i, id in ipairs(ids) do
    local from_s = status == 'scheduled' and score or time[1] + time[2] / 1e6 + i * step
    call('ZADD', OWN .. 'expiring', from_s + ARGV[9], id)
  end
end
return taken[1] and taken or 1
