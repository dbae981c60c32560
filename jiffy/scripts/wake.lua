-- Wake one worker that sleeps at a queue, unless one is woken already; other scripts include this.
-- KEYS: none
-- ARGV: none
-- Returns nothing; it defines wake

local function wake(queue)
  local token = 'jiffy:wake:' .. queue
  if redis.call('LLEN', token) == 0 then redis.call('LPUSH', token, 1) end
end

