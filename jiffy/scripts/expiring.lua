-- Let a job with `expires` be looked at when its time is over, begun or not; other scripts include this.
-- KEYS: none: it is told of the job by its id
-- ARGV: none
-- Returns nothing; it defines look_when_expired

local function look_when_expired(id)
  local expires = string.match(redis.call('HGET', 'rq:job:' .. id, 'jiffy:expires') or '', '^%d+$')
  if expires then redis.call('ZADD', 'jiffy:expiring', redis.call('TIME')[1] + expires, id) end
end

