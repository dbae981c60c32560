-- Find the workers that are dead: those whose lease has ended.
-- KEYS: leases, when a supervisor last looked for the dead
-- ARGV: the shortest and longest time between two looks, and how long to wait after an outage, in s
-- Returns their names; none if a supervisor has just looked
--include lib
even_if_full()
local shortest_s, longest_s, wait_s = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local last, excused_until = unpack(call_own('HMGET', KEYS[2], 'at', 'quiet_until'))
last = number_of(last) or 0
local since_s = NOW - last
if since_s >= 0 and since_s < shortest_s then return {} end
-- Where no supervisor has looked for a while, Redis was away and so are all leases: those who live get the time to renew them,
-- or the first to come back would declare all others dead.
excused_until = number_of(excused_until) or 0
if excused_until > NOW + wait_s then excused_until = 0 end
if since_s > longest_s or since_s < 0 then excused_until = NOW + wait_s end
call('HSET', KEYS[2], 'at', NOW, 'quiet_until', excused_until)
-- Redis' clock was set back: leases from before end as much earlier.
if since_s < 0 and since_s > -1e10 then
  local ahead = call_own('ZRANGEBYSCORE', KEYS[1], last, '+inf', 'LIMIT', 0, MOST_KEYS, 'WITHSCORES')
  for i = 1, #ahead, 2 do call('ZADD', KEYS[1], ahead[i + 1] + since_s, ahead[i]) end
end
if tonumber(NOW) < excused_until then return {} end
local dead = call_own('ZRANGEBYSCORE', KEYS[1], '-inf', NOW, 'LIMIT', 0, 100)
-- The next look begins with others: those that cannot be recovered now keep none waiting.
for _, worker in ipairs(dead) do call('ZADD', KEYS[1], NOW, worker) end
return dead
