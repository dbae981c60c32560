-- Write jobs that have most in common, once, however often it is repeated: for enqueue.lua and enqueue_waiting.lua.
-- Expects `status`, that of the jobs, `last`, where they end in ARGV, and `needs`, '' but for a workflow's.
-- KEYS: the queue, then the jobs that they depend on
-- ARGV: queue's name, how (RPUSH, LPUSH, ZADD: for later), seconds to live or '', seconds to remember the call or '',
--       unique for so many ms or '', until (begun, done or ''), how many fields and values, those (of these,
--       jiffy:expires first), the call's token ('': the first job's id, which is random), score for later or '', now,
--       then for each job its id, data, description, and if it is unique its key
-- Leaves `ids`, those that are new; and `taken`: for each other its place, from 0, and the job that is there instead.
local name, how, ttl, unique = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local first, size = 11 + ARGV[7], unique == '' and 3 or 4
local token, score, now = ARGV[first - 3], ARGV[first - 2], ARGV[first - 1]
local ids, taken, seen = {}, {}, token ~= '' and {}

-- Its reply was lost and the same call comes again: it has been done, and the jobs may be gone already.
local sent = ARGV[4] ~= '' and OWN .. 'sent:' .. (token == '' and ARGV[first] or token)
local reply = sent and call('GET', sent)
if reply then return cjson.decode(reply) end
for i = 2, #KEYS do
  if call('EXISTS', KEYS[i], RQ .. 'job:' .. ARGV[first]) == 0 then return string.sub(KEYS[i], #RQ + 5) end
end

-- What can fail comes first: nothing is undone when a script ends with an error.
call('SADD', RQ .. 'queues', KEYS[1])
call('LLEN', KEYS[1])
if status ~= 'queued' then call('ZCARD', RQ .. status .. ':' .. name) end

-- The job that a unique one repeats; false if there is none, or if that has come as far as it is unique.
local repeated = unique ~= '' and function(key, id)
  local other = call('GET', key)
  if not other or other == id then return false end
  local its = ARGV[6] ~= '' and call('HGET', RQ .. 'job:' .. other, 'status')
  local is_past = its == false or its == 'finished' or its == 'failed' or its == 'stopped' or its == 'canceled'
  return (ARGV[6] == '' or not (is_past or ARGV[6] == 'begun' and its == 'started')) and other
end

local function write(key, data, description)
  call('HSET', key, 'created_at', now, 'enqueued_at', now, 'data', data, 'description', description, 'origin', name,
    'status', status, 'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '',
    'success_callback_name', '', 'failure_callback_name', '', 'stopped_callback_name', '', unpack(ARGV, 8, first - 4))
  if status ~= 'queued' then call('HDEL', key, 'enqueued_at') end
  if token ~= '' then call('HSET', key, 'jiffy:call', token) end
end

-- Of many, a copy costs a fraction of what it costs to write all fields again.  It is gone when this script ends.
local pattern = last - first >= size and OWN .. 'pattern'
if pattern then
  call('DEL', pattern)
  write(pattern, '', '')
end
for i = first, last, size do
  local id = ARGV[i]
  local job = RQ .. 'job:' .. id
  local other = repeated and repeated(ARGV[i + 3], id)
  local is_there = not other
  if is_there and pattern then
    is_there = call('COPY', pattern, job) == 0
  elseif is_there then
    -- The second key: it was written without a token, the reply was lost, and its id is given to make sure.
    is_there = call('EXISTS', job, OWN .. 'sent:' .. id) > 0
  end
  if seen then
    if is_there and (seen[id] or call('HGET', job, 'jiffy:call') ~= token) then other = id end
    seen[id] = true
  end
  if other then
    taken[#taken + 1] = (i - first) / size
    taken[#taken + 1] = other
  elseif not is_there then
    if pattern then
      call('HSET', job, 'data', ARGV[i + 1], 'description', ARGV[i + 2])
    else
      write(job, ARGV[i + 1], ARGV[i + 2])
    end
    if ttl ~= '' and needs == '' then call('EXPIRE', job, ttl) end
    if unique ~= '' then call('SET', ARGV[i + 3], id, 'PX', unique) end
    ids[#ids + 1] = id
  end
end
if pattern then call('DEL', pattern) end
if sent then call('SET', sent, cjson.encode(taken), 'EX', ARGV[4]) end
