-- What becomes of a job that waits for others, in a chain or a group; other scripts include this.
-- KEYS: none: a job's end touches what waits for it, and what waits for that
-- ARGV: none
-- Returns nothing; it defines member_is_over

-- In the data of a job that waits: where what the others returned is to stand.  Quotes inside JSON's
-- texts are escaped, so this stands nowhere else; and it has nothing that is special in a pattern.
local PLACEHOLDER = '{"jiffy:result": true}'
local MOST_BYTES = 5000000

local function forget(id)
  redis.call('DEL', 'jiffy:join:' .. id, 'jiffy:pending:' .. id)
  redis.call('ZREM', 'jiffy:joins', id)
end

-- RQ's registry decides, so that it happens once, and never to what was canceled or deleted meanwhile.
local function is_ours(id, queue)
  return redis.call('ZREM', 'rq:deferred:' .. queue, id) == 1
    and redis.call('EXISTS', 'rq:job:' .. id) == 1
end

-- Cancel a job that waits, and what waits for that: a chain ends where a part of it has not finished.
local function cancel(id, reason)
  while id and id ~= '' do
    local queue, job = redis.call('HGET', 'jiffy:join:' .. id, 'queue'), 'rq:job:' .. id
    forget(id)
    if not queue or not is_ours(id, queue) then return end
    local kept = redis.call('HMGET', job, 'failure_ttl', 'jiffy:join')
    redis.call('HSET', job, 'status', 'canceled', 'jiffy:reason', reason)
    redis.call('ZADD', 'rq:canceled:' .. queue, redis.call('TIME')[1], id)
    local ttl = tonumber(kept[1]) or 365 * 24 * 3600
    if ttl > 0 then redis.call('EXPIRE', job, ttl) end
    id = kept[2]
  end
end

local function outcomes(join, count)
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
  if data then
    local all = outcomes(join, tonumber(told[3]))
    local value = told[2] == 'success' and all[1] or '[' .. table.concat(all, ', ') .. ']'
    data = string.gsub(data, PLACEHOLDER, function() return value end)
  end
  forget(id)
  if not is_ours(id, queue) then return end
  local own = redis.call('HMGET', job, 'ttl', 'enqueue_at_front')
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(own[2] == '1' and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id)
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now)
  if data then redis.call('HSET', job, 'data', data) end
  if own[1] and own[1] ~= '' then redis.call('EXPIRE', job, own[1]) end
  local wake = 'jiffy:wake:' .. queue
  if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, 1) end
end

local IN_WORDS = {failed = 'failed', stopped = 'was stopped', canceled = 'was canceled', gone = 'is gone'}
local function why(member, status, error)
  if member == '' then return 'Its producer ended before all parts were written.' end
  local line = cjson.decode('[' .. error .. ']')[1]
  return 'A part before it, ' .. member .. ', ' .. IN_WORDS[status]
    .. (type(line) == 'string' and ': ' .. line or '')
end

-- `member` is over: note it for the job `id`, which waits for it, and for the last one see to that job.
-- `value` and `error` are JSON.  Said again it changes nothing.  The member '' is the producer: until it
-- has written all parts, it is waited for too.
local function member_is_over(id, member, status, value, error, now)
  local join, pending = 'jiffy:join:' .. id, 'jiffy:pending:' .. id
  local number = redis.call('ZSCORE', pending, member)
  if not number then return end
  redis.call('ZREM', pending, member)
  local told = redis.call('HMGET', join, 'needs', 'data')
  local must_finish = told[1] == 'success' or member == ''
  if must_finish and status ~= 'finished' then return cancel(id, why(member, status, error)) end
  if told[2] and member ~= '' then
    if told[1] ~= 'success' then
      value = string.format('{"id": "%s", "status": "%s", "result": ', member, status) .. value
        .. ', "error": ' .. error .. '}'
    end
    redis.call('HSET', join, number, value)
    if redis.call('HINCRBY', join, 'bytes', #value) > MOST_BYTES then
      return cancel(id, 'What its parts returned is over ' .. MOST_BYTES
        .. ' bytes together: let them return paths or ids.')
    end
  end
  if redis.call('ZCARD', pending) == 0 then release(id, now) end
end
