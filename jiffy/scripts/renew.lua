-- Renew the leases of workers and of all that they hold, in RQ's registries too.
-- KEYS: leases
-- ARGV: lease in s, now as text, now in s, life of a worker's hash in s, then the workers' names
-- Returns the names whose lease was gone: their jobs may be running elsewhere by now

local time = redis.call('TIME')
local now, gone = time[1] + time[2] / 1e6, {}
for i = 5, #ARGV do
  local name = ARGV[i]
  if not redis.call('ZSCORE', KEYS[1], name) then gone[#gone + 1] = name end
  redis.call('ZADD', KEYS[1], now + ARGV[1], name)
  redis.call('HSET', 'rq:worker:' .. name, 'last_heartbeat', ARGV[2])
  redis.call('EXPIRE', 'rq:worker:' .. name, ARGV[4])
  redis.call('EXPIRE', 'rq:worker:' .. name .. ':executions', ARGV[4])
  local held = redis.call('GET', 'jiffy:held:' .. name)
  for _, h in ipairs(held and cjson.decode(held) or {}) do
    local member = h[2] .. ':' .. h[3]
    -- RQ's own cleaners look at this score; they are to find these jobs only if we all are gone.
    if redis.call('ZADD', 'rq:wip:' .. h[1], 'XX', 'CH', ARGV[3] + 90, member) == 1 then
      redis.call('HSET', 'rq:execution:' .. member, 'last_heartbeat', ARGV[3])
      redis.call('EXPIRE', 'rq:execution:' .. member, 90)
      redis.call('ZADD', 'rq:executions:' .. h[2], ARGV[3] + 150, h[3])
      redis.call('EXPIRE', 'rq:executions:' .. h[2], 150)
      if redis.call('TYPE', 'rq:job:' .. h[2]).ok == 'hash' then
        redis.call('HSET', 'rq:job:' .. h[2], 'last_heartbeat', ARGV[2])
      end
    end
  end
end
return gone
