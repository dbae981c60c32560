-- Write many jobs that have most in common and put them on one queue, in one step and once; wake workers that sleep.
-- KEYS: the queue
-- ARGV: queue's name, how (RPUSH, LPUSH, ZADD: for later), seconds to live or '', the call's token, seconds to remember
--       the call, is the token written to the jobs ('1' or ''), score for later or '', now, how many further words, those
--       (fields and values; of these, jiffy:expires first), then for each job its id, data, description
-- Returns the numbers, from 0, of those whose id was another job's
--include queue

local name, how, token, now = ARGV[1], ARGV[2], ARGV[4], ARGV[8]
local sent = OWN .. 'sent:' .. token
local told = redis.call('GET', sent)
if told then return cjson.decode(told) end

-- What can fail comes first: nothing is undone when a script ends with an error.
local wake = OWN .. 'wake:' .. name
local is_heard = redis.call('LLEN', wake) > 0
redis.call('SADD', RQ .. 'queues', KEYS[1])
redis.call('ZCARD', RQ .. 'scheduled:' .. name)
redis.call('LLEN', KEYS[1])

-- A copy costs a fraction of what it costs to write all fields again.  It is gone when this script ends.
local pattern = OWN .. 'pattern'
local first = 10 + ARGV[9]
redis.call('DEL', pattern)
redis.call('HSET', pattern, 'created_at', now, 'origin', name, 'status', how == 'ZADD' and 'scheduled' or 'queued',
  'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '',
  'success_callback_name', '', 'failure_callback_name', '', 'stopped_callback_name', '', unpack(ARGV, 10, first - 1))
if how ~= 'ZADD' then redis.call('HSET', pattern, 'enqueued_at', now) end
if ARGV[6] ~= '' then redis.call('HSET', pattern, 'jiffy:call', token) end

local ids, taken = {}, {}
for i = first, #ARGV, 3 do
  local id = ARGV[i]
  local job = RQ .. 'job:' .. id
  if redis.call('COPY', pattern, job) == 0 then
    taken[#taken + 1] = (i - first) / 3
  else
    redis.call('HSET', job, 'data', ARGV[i + 1], 'description', ARGV[i + 2])
    if ARGV[3] ~= '' then redis.call('EXPIRE', job, ARGV[3]) end
    ids[#ids + 1] = id
  end
end
redis.call('DEL', pattern)

if how == 'ZADD' then
  for _, id in ipairs(ids) do redis.call('ZADD', RQ .. 'scheduled:' .. name, ARGV[7], id) end
elseif #ids > 0 then
  redis.call(how, KEYS[1], unpack(ids))
  for _ = 1, is_heard and 0 or math.min(#ids, 32) do redis.call('LPUSH', wake, 1) end
end
if ARGV[10] == 'jiffy:expires' then
  -- In the order of the queue, so that those at its front are looked at first.
  local time, step = redis.call('TIME'), how == 'LPUSH' and -1e-6 or 1e-6
  for i, id in ipairs(ids) do
    local from_s = how == 'ZADD' and ARGV[7] or time[1] + time[2] / 1e6 + i * step
    redis.call('ZADD', OWN .. 'expiring', from_s + ARGV[11], id)
  end
end
redis.call('SET', sent, #taken > 0 and cjson.encode(taken) or '[]', 'EX', ARGV[5])
return taken
