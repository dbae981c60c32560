-- Find the workers that are dead: whose lease has run out.
-- KEYS: leases, the last sweep
-- ARGV: shortest and longest time between two sweeps in s, how long to wait after an outage in s
-- Returns their names; none if somebody has just looked

-- Where nobody has looked for a while, Redis was away and so were all leases: those who live are
-- given the time to renew them, or the first to come back would declare all others dead.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local last = redis.call('HMGET', KEYS[2], 'at', 'quiet_until')
local since = now - tonumber(last[1] or 0)
if since >= 0 and since < tonumber(ARGV[1]) then return {} end
local quiet_until = tonumber(last[2] or 0)
if since > tonumber(ARGV[2]) or since < 0 then quiet_until = now + ARGV[3] end
redis.call('HSET', KEYS[2], 'at', now, 'quiet_until', quiet_until)
if now < quiet_until then return {} end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
