-- What becomes of a job that waits for others, in a chain or a group; other scripts include this.
-- KEYS: none: a job's end touches what waits for it, and what waits for that
-- ARGV: none
-- Returns nothing; it defines member_is_over
--include wake
--include canceled
-- In the data of a job that waits: where what the others returned is to stand.  Quotes inside JSON's
-- texts are escaped, so this stands nowhere else; and it has nothing that is special in a pattern.
local PLACEHOLDER = '{"jiffy:result": true}'
local MOST_BYTES = 5000000

local function forget(id)
  redis.call('DEL', 'jiffy:join:' .. id, 'jiffy:pending:' .. id)
  redis.call('ZREM', 'jiffy:joins', id)
end

-- RQ's registry decides, so that it happens once, and never to what was canceled or deleted meanwhile.
local function still_waits(id, queue)
  return queue and redis.call('ZSCORE', 'rq:deferred:' .. queue, id)
    and redis.call('EXISTS', 'rq:job:' .. id) == 1
end

-- Cancel a job that waits, and what waits for that: a chain ends where a part of it has not finished.  Each
-- remembers the part that it had waited for (`broken_by`, if that is of a chain): see `mend`.
local function cancel(id, reason, broken_by)
  while id and id ~= '' do
    local queue, job = redis.call('HGET', 'jiffy:join:' .. id, 'queue'), 'rq:job:' .. id
    forget(id)
    if not still_waits(id, queue) then return end
    note_canceled(queue, id, reason)
    redis.call('ZREM', 'rq:deferred:' .. queue, id)
    if broken_by then redis.call('HSET', job, 'jiffy:broken_by', broken_by) end
    broken_by = broken_by and id
    id = redis.call('HGET', job, 'jiffy:join')
  end
end

-- `member` had failed and broken its chain; now it was tried again, by hand, and has finished: what was canceled
-- because of it waits again.
local function mend(id, member)
  local job, join = 'rq:job:' .. id, 'jiffy:join:' .. id
  local told = redis.call('HMGET', job, 'status', 'jiffy:broken_by', 'origin', 'data')
  if told[1] ~= 'canceled' or told[2] ~= member then return end
  redis.call('ZADD', 'rq:deferred:' .. told[3], redis.call('TIME')[1], id)
  redis.call('ZREM', 'rq:canceled:' .. told[3], id)
  redis.call('HSET', job, 'status', 'deferred')
  redis.call('HDEL', job, 'jiffy:broken_by', 'jiffy:reason')
  redis.call('PERSIST', job)
  redis.call('HSET', join, 'queue', told[3], 'needs', 'success', 'count', 1)
  if string.find(told[4], PLACEHOLDER, 1, true) then redis.call('HSET', join, 'data', told[4]) end
  redis.call('ZADD', 'jiffy:pending:' .. id, 0, member)
end

local function all_told(join, count)
  local all = {}
  for first = 0, count - 1, 1000 do
    local numbers = {}
    for number = first, math.min(first + 1000, count) - 1 do numbers[#numbers + 1] = number end
    for _, outcome in ipairs(redis.call('HMGET', join, unpack(numbers))) do
      all[#all + 1] = outcome
    end
  end
  return all
end

-- From here on it is a job like any other: what the others returned stands in its arguments.
local function release(id, now)
  local join, job = 'jiffy:join:' .. id, 'rq:job:' .. id
  local told = redis.call('HMGET', join, 'queue', 'needs', 'count', 'data')
  local queue, data = told[1], told[4]
  if not still_waits(id, queue) then return forget(id) end
  if data then
    local all = all_told(join, tonumber(told[3]))
    local value = told[2] == 'success' and all[1] or '[' .. table.concat(all, ', ') .. ']'
    data = string.gsub(data, PLACEHOLDER, function() return value end)
  end
  -- What can fail comes first: nothing is undone when a script ends with an error.
  local own = redis.call('HMGET', job, 'ttl', 'enqueue_at_front')
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(own[2] == '1' and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id)
  redis.call('ZREM', 'rq:deferred:' .. queue, id)
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now)
  if data then redis.call('HSET', job, 'data', data) end
  if own[1] and own[1] ~= '' then redis.call('EXPIRE', job, own[1]) end
  forget(id)
  wake(queue)
end

local IN_WORDS = {failed = 'failed', stopped = 'was stopped', canceled = 'was canceled', gone = 'is gone'}
local function why(member, status, error)
  if member == '' then return 'Its producer ended before all parts were written.' end
  local line = cjson.decode('[' .. error .. ']')[1]
  return 'A part before it, ' .. member .. ', ' .. IN_WORDS[status]
    .. (type(line) == 'string' and ': ' .. line or '')
end

-- Note what became of `member` for the job `id`, which waits for it; false if that job is to be canceled, why, and
-- who has broken the chain.
local function note(id, number, member, status, value, error)
  local join = 'jiffy:join:' .. id
  local told = redis.call('HMGET', join, 'needs', 'data')
  if (told[1] == 'success' or member == '') and status ~= 'finished' then
    return false, why(member, status, error), told[1] == 'success' and member
  end
  if not told[2] or member == '' then return true end
  if told[1] ~= 'success' then
    value = string.format('{"id": "%s", "status": "%s", "result": ', member, status) .. value
      .. ', "error": ' .. error .. '}'
  end
  redis.call('HSET', join, number, value)
  return redis.call('HINCRBY', join, 'bytes', #value) <= MOST_BYTES, 'What its parts returned is over '
    .. MOST_BYTES .. ' bytes together: let them return paths or ids.'
end

-- `member` is over: tell the job `id`, which waits for it; the last one enqueues that job.  Said again it
-- changes nothing.  `value` and `error` are JSON.  The member '' is the producer: until it has written all
-- parts, it is waited for too.
local function member_is_over(id, member, status, value, error, now)
  local pending = 'jiffy:pending:' .. id
  if status == 'finished' then mend(id, member) end
  local number = redis.call('ZSCORE', pending, member)
  if number then
    local goes_on, reason, broken_by = note(id, number, member, status, value, error)
    if not goes_on then return cancel(id, reason, broken_by) end
    redis.call('ZREM', pending, member)
  end
  if redis.call('ZCARD', pending) == 0 then release(id, now) end
end
