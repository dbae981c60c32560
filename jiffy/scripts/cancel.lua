-- Cancel a job that has not begun, in one step; one that runs, or has ended, is left alone.
-- KEYS: the job
-- ARGV: its id
-- Returns the status that the job had ('' for none), and 1 if it is canceled by this call, else 0
--include lib
--include release
local key, id = KEYS[1], ARGV[1]
local job = fields(key, 'status', 'origin', 'jiffy:reason', 'rate_limit_key')
if not job or call('EXISTS', key) == 0 then return {'', 0} end
local status, queue, reason, limit = job[1] or 'unknown', job[2] or '', job[3], job[4]

-- The status alone is not enough: a worker of RQ's may have popped the id and not marked it yet.
local is_taken_off = false
if status == 'queued' then
  is_taken_off = call('LREM', RQ .. 'queue:' .. queue, 0, id) > 0
elseif status == 'scheduled' or status == 'deferred' then
  is_taken_off = call('ZREM', RQ .. status .. ':' .. queue, id) == 1
elseif status == 'ready_to_enqueue' then
  is_taken_off = call('ZREM', RQ .. 'ready:' .. queue, id) == 1
elseif status == 'rate_limited' and limit then
  is_taken_off = call('ZREM', RQ .. 'rl:' .. limit .. ':rate_limited', id) == 1
end
if not is_taken_off then return {status, 0} end
call('HSET', key, 'status', 'canceled')
-- If it was to be retried, this is the reason: its last line tells it from a reason for the cancel.
if reason then call('HSET', key, 'jiffy:reason', 'It was not tried again after ' .. string.match(reason, '[^\n]*$')) end
call('ZADD', RQ .. 'canceled:' .. queue, time[1], id)
call('ZREM', OWN .. 'expiring', id)
if limit then free_slot(limit, id) end
-- A process that is just releasing it in RQ's way has read that it waits, and watches these sets: touch them.
for _, parent in ipairs(call('SRANDMEMBER', RQ .. 'job::' .. id .. ':dependencies', MOST_KEYS)) do
  local dependents = job_key(parent) .. ':dependents'
  if call('SREM', dependents, id) == 1 then call('SADD', dependents, id) end
end
return {status, 1}
