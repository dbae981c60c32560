-- Write a job and put it on its queue, in one step and once; wake a worker that sleeps.
-- KEYS: the queue
-- ARGV: queue's name, how (RPUSH, LPUSH, ZADD: for later), seconds to live or '', seconds to remember the call or '',
--       unique for so many ms or '', until (begun, done or ''), job id, the call's token ('': the job id), unique key
--       or '', score for later or '', now, data, description, then further fields and values (of these, jiffy:expires first)
-- Returns 1 if it is there by this call, 0 if the id is another job's, or the id of the job that this one repeats
--include queue

local name, how, id, token = ARGV[1], ARGV[2], ARGV[7], ARGV[8]
local job = RQ .. 'job:' .. id

-- Its reply was lost and the same call is heard again: it has been done, and the job may be gone already.
local sent = ARGV[4] ~= '' and OWN .. 'sent:' .. (token == '' and id or token)
if sent and redis.call('EXISTS', sent) == 1 then return 1 end
-- The second key: it was written without a token, nobody heard that, and its id is given to make sure.
if redis.call('EXISTS', job, OWN .. 'sent:' .. id) > 0 then
  return (token == '' or redis.call('HGET', job, 'jiffy:call') == token) and 1 or 0
end

local over = {finished = 1, failed = 1, stopped = 1, canceled = 1}
local function is_past(status)
  if ARGV[6] == '' then return false end
  return not status or over[status] or (ARGV[6] == 'begun' and status == 'started')
end

if ARGV[5] ~= '' then
  local first = redis.call('GET', ARGV[9])
  if first == id then return 1 end
  if first and not is_past(redis.call('HGET', RQ .. 'job:' .. first, 'status')) then return first end
end

-- What can fail comes first: nothing is undone when a script ends with an error.
local wake = OWN .. 'wake:' .. name
local is_heard = how == 'ZADD' or redis.call('LLEN', wake) > 0
redis.call('SADD', RQ .. 'queues', KEYS[1])
if how == 'ZADD' then
  redis.call('ZADD', RQ .. 'scheduled:' .. name, ARGV[10], id)
else
  redis.call(how, KEYS[1], id)
end
redis.call('HSET', job, 'created_at', ARGV[11], 'enqueued_at', ARGV[11], 'data', ARGV[12], 'description', ARGV[13],
  'origin', name, 'status', how == 'ZADD' and 'scheduled' or 'queued', 'started_at', '', 'ended_at', '',
  'last_heartbeat', '', 'worker_name', '', 'group_id', '', 'success_callback_name', '', 'failure_callback_name', '',
  'stopped_callback_name', '', unpack(ARGV, 14))
if how == 'ZADD' then redis.call('HDEL', job, 'enqueued_at') end
if ARGV[14] == 'jiffy:expires' then
  local time = redis.call('TIME')
  local from_s = how == 'ZADD' and ARGV[10] or time[1] + time[2] / 1e6
  redis.call('ZADD', OWN .. 'expiring', from_s + ARGV[15], id)
end
if token ~= '' then redis.call('HSET', job, 'jiffy:call', token) end
if ARGV[3] ~= '' then redis.call('EXPIRE', job, ARGV[3]) end
if ARGV[5] ~= '' then redis.call('SET', ARGV[9], id, 'PX', ARGV[5]) end
if sent then redis.call('SET', sent, 1, 'EX', ARGV[4]) end
if not is_heard then redis.call('LPUSH', wake, 1) end
return 1
