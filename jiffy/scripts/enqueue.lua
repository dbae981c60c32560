-- Write jobs that have most in common, once, however often it is repeated.  They go onto their queue, where sleeping
-- workers are woken; or among those for later; or among those that wait: for other jobs (`depends_on`), for a slot of
-- their rate limit, or, one of a chain or group, for its parts, which are written after it.
-- KEYS: the queue, then the jobs that they depend on
-- ARGV: queue's name, RPUSH or LPUSH, seconds to live or '', seconds to remember the call or '', unique for so many ms or
--       '', until (begun, done or ''), how many fields and values, those (of these, jiffy:expires first), the call's token
--       ('': the first job's id, which is random), when ('' for now; waits; a score for later), now,
--       then for each job its id, data, description, and if it is unique its key; behind those that wait: needs (''; or
--       what a workflow's job needs of its parts: success: of the one; end), seconds until the producer will have written
--       them all or '' (it has, in this transaction), the number of the first of these parts, their ids between commas
-- Returns 1, or for each job that is not written its place, from 0, and the id of the job that is there in its stead; or
--         the id of a job that they depend on and that is not there
local RQ, OWN, call = '@RQ@', '@OWN@', redis.call
local name, how, ttl, unique = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local first, size = 11 + ARGV[7], unique == '' and 3 or 4
local token, when, now = ARGV[first - 3], ARGV[first - 2], ARGV[first - 1]
local status, last, needs = when == '' and 'queued' or 'scheduled', #ARGV, ''
if when == 'waits' then status, last, needs = 'deferred', #ARGV - 4, ARGV[#ARGV - 3] end
local ids, taken, seen, ended, is_first = {}, {}, token ~= '' and {}, {}, {}

-- Of a key that only we write: the answer, or false where it holds something else, which is deleted.
local function call_own(command, key)
  local answer = redis.pcall(command, key)
  if type(answer) ~= 'table' then return answer end
  call('DEL', key)
  return false
end

-- Its reply was lost and the same call comes again: it has been done, and the jobs may be gone already.
local sent = ARGV[4] ~= '' and OWN .. 'sent:' .. (token == '' and ARGV[first] or token)
local reply = sent and call_own('GET', sent)
if reply then return cjson.decode(reply) end
for i = 2, #KEYS do
  for j = first, call('EXISTS', KEYS[i]) == 0 and last or 0, size do  -- unless this is repeated
    if call('EXISTS', RQ .. 'job:' .. ARGV[j]) == 0 then return string.sub(KEYS[i], #RQ + 5) end
  end
  is_first[i] = call('SCARD', KEYS[i] .. ':dependents') == 0
  ended[i] = call('HGET', KEYS[i], 'status')
end
-- More parts of a job that waits for them: it may have been deleted.
local adds_parts = needs ~= '' and tonumber(ARGV[last + 3]) > 0
if adds_parts and call('EXISTS', RQ .. 'job:' .. ARGV[first]) == 0 then return {} end

-- What can fail comes first: nothing is undone when a script ends with an error.
call('SADD', RQ .. 'queues', KEYS[1])
call('LLEN', KEYS[1])
if status ~= 'queued' then call('ZCARD', RQ .. status .. ':' .. name) end
local wakes = OWN .. 'wake:' .. name
local is_awake = (call_own('LLEN', wakes) or 0) > 0
if ARGV[8] == 'jiffy:expires' then call_own('ZCARD', OWN .. 'expiring') end

local ENDED = {finished = true, failed = true, stopped = true, canceled = true}

-- The job that a unique one repeats; false if there is none, or if that has come as far as it is unique.
local repeated = unique ~= '' and function(key, id)
  local other = call_own('GET', key)
  -- What stands there may be no id that a job can have.
  if not other or other == id or #other > 250 or not string.find(other, '^[%w_.%-]+$') then return false end
  local its = ARGV[6] ~= '' and redis.pcall('HGET', RQ .. 'job:' .. other, 'status')
  local is_past = not its or its.err or ENDED[its]
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
    if is_there and (seen[id] or redis.pcall('HGET', job, 'jiffy:call') ~= token) then other = id end
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

if status == 'deferred' then
--include lib
--include waiting
  if needs ~= '' then
    local id, data, open_s, number, parts = ARGV[first], ARGV[first + 1], unpack(ARGV, last + 2)
    local join, pending = OWN .. 'join:' .. id, OWN .. 'pending:' .. id
    if #ids > 0 then
      call('ZADD', RQ .. 'deferred:' .. name, time[1], id)
      call('HSET', join, 'queue', name, 'needs', needs)
      if string.find(data, RESULT, 1, true) then call('HSET', join, 'data', data) end
      call_own('ZADD', OWN .. 'joins', time[1], id)
      call('HSET', job_key(id), 'jiffy:parts', string.sub(parts, 1, 3699))  -- a hundred: they are only shown
    elseif call('EXISTS', join) == 0 or call('HEXISTS', join, 'written') == 1 then
      return {}  -- this is repeated: it waits no more, or for no others
    end
    if open_s ~= '' then call('ZADD', pending, -(time[1] + open_s), '') end
    for part in string.gmatch(parts, '[^,]+') do
      call('ZADD', pending, number, part)
      number = number + 1
    end
    call('HSET', join, 'count', number)
    return {}
  end
  local waits, may_fail = false, #ids > 0 and call('HGET', job_key(ids[1]), 'allow_dependency_failures') == '1'
  for i = 2, #KEYS do
    waits = waits or not (ended[i] == 'finished' or ended[i] == 'failed' and may_fail)
  end
  for _, id in ipairs(ids) do
    if waits then
      call('ZADD', RQ .. 'deferred:' .. name, time[1], id)
      for i = 2, #KEYS do
        call('SADD', KEYS[i] .. ':dependents', id)
        call('SADD', RQ .. 'job::' .. id .. ':dependencies', string.sub(KEYS[i], #RQ + 5))
      end
      if ttl ~= '' then call('EXPIRE', RQ .. 'job::' .. id .. ':dependencies', ttl) end
    else
      enqueue(name, id, how == 'LPUSH')
    end
  end
  -- What is named here of a job that has ended goes with it; but where there were others, they may be about to be released.
  for i = 2, waits and #KEYS or 0 do
    local left_s = is_first[i] and ENDED[ended[i]] and call('TTL', KEYS[i]) or -1
    if left_s >= 0 then call('EXPIRE', KEYS[i] .. ':dependents', math.max(left_s, 1)) end
  end
elseif #ids > 0 then
  if status == 'scheduled' then
    for _, id in ipairs(ids) do call('ZADD', RQ .. 'scheduled:' .. name, when, id) end
  else
    call(how, KEYS[1], unpack(ids))
    for _ = 1, is_awake and 0 or math.min(#ids, 32) do call('LPUSH', wakes, 1) end
  end
  if ARGV[8] == 'jiffy:expires' then
    -- In the order of the queue, so that those at its front are looked at first.
    local time, step = call('TIME'), how == 'LPUSH' and -1e-6 or 1e-6
    for i, id in ipairs(ids) do
      local from_s = status == 'scheduled' and when or time[1] + time[2] / 1e6 + i * step
      call('ZADD', OWN .. 'expiring', from_s + ARGV[9], id)
    end
  end
end
return taken[1] and taken or 1
