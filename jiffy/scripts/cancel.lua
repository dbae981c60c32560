-- Cancel a job that has not begun, in one step: what runs, or is over, is left as it is.
-- KEYS: the job
-- ARGV: its id
-- Returns the status that the job had ('' for none), and 1 if it is canceled by this call, else 0

local job, id = KEYS[1], ARGV[1]
if redis.call('TYPE', job).ok ~= 'hash' then return {'', 0} end
local status, name = redis.call('HGET', job, 'status') or 'unknown', redis.call('HGET', job, 'origin') or ''

-- What the status says is not enough: a worker of RQ's may have popped the id and not told yet.
local function is_taken_off()
  if status == 'queued' then return redis.call('LREM', 'rq:queue:' .. name, 0, id) > 0 end
  if status ~= 'scheduled' and status ~= 'deferred' then return false end
  return redis.call('ZREM', 'rq:' .. status .. ':' .. name, id) == 1
end

if not is_taken_off() then return {status, 0} end
redis.call('HSET', job, 'status', 'canceled')
-- If it was to be tried again, this says why: its last line tells that from a reason for the cancel.
local reason = redis.call('HGET', job, 'jiffy:reason')
if reason then
  redis.call('HSET', job, 'jiffy:reason', 'It was not tried again after ' .. string.match(reason, '[^\n]*$'))
end
redis.call('ZADD', 'rq:canceled:' .. name, redis.call('TIME')[1], id)
-- Who is just releasing it in RQ's way has read that it waits, and watches these sets: touch them.
for _, parent in ipairs(redis.call('SMEMBERS', 'rq:job::' .. id .. ':dependencies')) do
  local dependents = 'rq:job:' .. parent .. ':dependents'
  if redis.call('SREM', dependents, id) == 1 then redis.call('SADD', dependents, id) end
end
return {status, 1}
