-- What becomes of jobs that wait: for a slot of their rate limit, for the jobs that they depend on, for the parts of their
-- workflow, for their function to be resumed.  Goes with lib.lua; expects no KEYS and ARGV of its own.

-- Slots of rate limits, and the way onto a queue of a job that may need one; mirrors the scripts in rq/rate_limit.py.

-- Let as many jobs that wait for a slot onto their queues as there are free slots, up to MOST_KEYS in a script and the one
-- that this call is for: the others follow as jobs end, or with the next maintenance.
local fills_left = MOST_KEYS
local function fill_slots(limit)
  fills_left = math.max(fills_left, 1)
  local base, passed_over = RQ .. 'rl:' .. limit, {}
  local slots = tonumber((fields(base, 'concurrency') or {})[1])
  while fills_left > 0 do
    local used, id = try('ZCARD', base .. ':allowed'), try('ZRANGE', base .. ':rate_limited', 0, 0)[1]
    if not id or type(used) ~= 'number' then return end
    local job = fields(job_key(id), 'origin', 'status', 'enqueue_at_front', 'rate_limit_concurrency')
    slots = slots or tonumber(job and job[4]) or 1  -- the limit's own hash may be gone
    if used >= slots then return end
    fills_left = fills_left - 1
    if not (job and job[1] and job[2] == 'rate_limited') then
      call('ZREM', base .. ':rate_limited', id)
    elseif push(job[1], id, job[3] == '1') then
      call('ZADD', base .. ':allowed', NOW, id)
      call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', date())
      call('ZREM', base .. ':rate_limited', id)
    elseif passed_over[id] then
      return
    else  -- its queue's key holds something else: the others go first
      call('ZADD', base .. ':rate_limited', NOW, id)
      passed_over[id] = true
    end
  end
end

-- A job has ended, or waits elsewhere: its slot is the next one's.  One that is queued or runs keeps it; one that was
-- canceled or deleted while it runs, too.
local function free_slot(limit, id)
  local status = (fields(job_key(id), 'status') or {})[1]
  local runs = (tonumber(try('ZCOUNT', RQ .. 'executions:' .. id, '(' .. NOW, '+inf')) or 0) > 0
  if runs or status == 'queued' or status == 'started' then return end
  if status ~= 'rate_limited' then try('ZREM', RQ .. 'rl:' .. limit .. ':rate_limited', id) end
  if try('ZREM', RQ .. 'rl:' .. limit .. ':allowed', id) == 1 then fill_slots(limit) end
end

-- Let a job with a `ttl` go without a trace unless it starts within it.
local function limit_life(id, ttl)
  for _, key in ipairs(tonumber(ttl) and {job_key(id), RQ .. 'job::' .. id .. ':dependencies'} or {}) do
    try('EXPIRE', key, ttl)
  end
end

-- Put a job that waited for something onto its queue, or among those that wait for a slot of its
-- rate limit; false where the queue's key holds something else.
local function enqueue(queue, id, is_front)
  local key = job_key(id)
  local limit, slots, ttl, expires, started, was_front = unpack(fields(key, 'rate_limit_key', 'rate_limit_concurrency',
    'ttl', 'jiffy:expires', 'started_at', 'enqueue_at_front') or {})
  local base = limit and RQ .. 'rl:' .. limit
  if limit and try('ZSCORE', base .. ':allowed', id) == false
    and type(try('ZADD', base .. ':rate_limited', NOW, id)) == 'number' then
    try('SADD', RQ .. 'rl-keys', limit)
    if slots then try('HSET', base, 'concurrency', slots) end
    call('HSET', key, 'status', 'rate_limited')
    if (is_front or false) ~= (was_front == '1') then call('HSET', key, 'enqueue_at_front', is_front and 1 or 0) end
    fill_slots(limit)
  else
    if not push(queue, id, is_front) then return false end
    try('HSET', key, 'status', 'queued', 'enqueued_at', date())
  end
  limit_life(id, ttl)
  if number_of(expires) and not started then call_own('ZADD', OWN .. 'expiring', NOW + expires, id) end
  return true
end

-- Keep a job, and the names of what depends on it and on what it depends, for so many seconds; nil: without end.
local function keep(id, seconds)
  for _, key in ipairs({job_key(id), job_key(id) .. ':dependents', RQ .. 'job::' .. id .. ':dependencies'}) do
    if seconds then try('EXPIRE', key, seconds) else call('PERSIST', key) end
  end
end

-- Cancel a job that is on no queue any more, as RQ does, with the reason.  It is kept as long as a failed one.
local function cancel(queue, id, reason)
  local registry, key = RQ .. 'canceled:' .. queue, job_key(id)
  call_own('ZADD', registry, NOW, id)
  call('HSET', key, 'status', 'canceled', 'jiffy:reason', reason)
  local kept_s, limit = unpack(fields(key, 'failure_ttl', 'rate_limit_key'))
  kept_s = tonumber(kept_s) or 31536000
  if kept_s >= 0 then keep(id, math.max(kept_s, 1)) end
  -- RQ never tidies this registry up: each job that is added takes some away that are gone, whichever are kept longer.
  for _, other in ipairs(try('ZRANDMEMBER', registry, 3)) do
    if call('EXISTS', job_key(other)) == 0 then call('ZREM', registry, other) end
  end
  if limit then free_slot(limit, id) end
end

-- Cancel a job that has not been started in time.  Returns the reason.
local function expire(queue, id, expires_s)
  local size, unit = 1, 'second'
  for s, name in pairs({[60] = 'minute', [3600] = 'hour', [86400] = 'day'}) do
    if expires_s % s == 0 and s > size then size, unit = s, name end
  end
  local count = expires_s / size
  local reason = string.format('Expired: not started within %d %s.', count, count == 1 and unit or unit .. 's')
  cancel(queue, id, reason)
  call('ZREM', OWN .. 'expiring', id)
  return reason
end

-- Dependents: jobs that wait in RQ's deferred registry until others have ended (`depends_on`).

-- Whether all that a job depends on has ended as it should; nil: so many have that the others are looked at next time.
-- And its parents that may still name it as one that waits.
local looks_left, all_looks_left = MOST_KEYS, 10 * MOST_KEYS
local function is_met(id, may_fail, ended)
  local key = RQ .. 'job::' .. id .. ':dependencies'
  local many = (tonumber(try('SCARD', key)) or 0) > 100
  if many and looks_left <= 0 then return nil end
  local found = many and call('SRANDMEMBER', key, 100) or try('SMEMBERS', key)
  all_looks_left = all_looks_left - #found
  for _, parent in ipairs(found) do
    local status = (fields(job_key(parent), 'status') or {})[1]
    if parent ~= ended and status and status ~= 'finished' and not (status == 'failed' and may_fail) then return false end
    -- So that the many need not be looked at again with each one of them.
    -- The one that has just ended names it until all are met.
    if many and parent ~= ended then
      call('SREM', key, parent)
      try('SREM', job_key(parent) .. ':dependents', id)
    end
  end
  if not many then return true, found end
  looks_left = looks_left - #found
  return is_met(id, may_fail, ended)
end

-- Release about `count` of the jobs that depend on one that has ended with this status, beginning at `cursor`.  Returns
-- whether there is more, which is left for the workers of the ended one's queue: until then the names are kept.
-- A Redis that has started meanwhile has them in another order, so those that took several steps are gone through once
-- more: then the cursor begins with another 0.
local function release_dependents(queue, id, status, cursor, count)
  local key, place = job_key(id) .. ':dependents', string.match(cursor, '^0?(%d+)$')
  if all_looks_left <= 0 or fills_left <= 0 then  -- for those of others that end together with it
    call('PERSIST', key)
    remember(queue, 'release ' .. status .. ' ' .. cursor .. ' ' .. id)
    return true
  end
  local answer = try('SSCAN', key, place, 'COUNT', count)
  if answer.err then return false end
  local is_again = #cursor > #place
  local next_cursor, is_blocked = answer[1] ~= '0' and (is_again and '0' or '') .. answer[1], false
  for _, dependent in ipairs(answer[2]) do
    local job = fields(job_key(dependent), 'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front')
    local may_fail = job and job[3] == '1'
    if not job or not job[1] then
      call('SREM', key, dependent)
    elseif job[1] == 'deferred' and job[2] and (status == 'finished' or (status == 'failed' and may_fail)) then
      local met, parents = is_met(dependent, may_fail, id)
      if met == nil then next_cursor = cursor end
      if met and enqueue(job[2], dependent, job[4] == '1') then
        try('ZREM', RQ .. 'deferred:' .. job[2], dependent)
        -- A parent that is kept without end must not keep the names of all that ever waited for it and another one.
        call('SREM', key, dependent)
        for _, parent in ipairs(parents) do
          if parent ~= id then try('SREM', job_key(parent) .. ':dependents', dependent) end
        end
      else
        is_blocked = is_blocked or met  -- the key of its queue holds something else now
      end
    end
  end
  if not (next_cursor or is_again) and place ~= '0' and call('EXISTS', key) == 1 then next_cursor = '00' end
  if next_cursor then remember(queue, 'release ' .. status .. ' ' .. next_cursor .. ' ' .. id) end
  if is_blocked then remember(queue, 'release ' .. status .. ' 0 ' .. id, 1) end
  if next_cursor or is_blocked then call('PERSIST', key) end
  return next_cursor or is_blocked
end

-- Workflows: a job of a chain or group that waits for others and takes what they returned.

-- In the data of a job that waits: where the results of the others go.  Quotes inside JSON's strings
-- are escaped, so this stands nowhere else; and it has nothing that is special in a pattern.
local RESULT = '{"jiffy:result": true}'
local MOST_RESULT_BYTES = 5000000  -- of all that a job is given, each place counted
local TOO_LARGE = 'What its parts returned is over ' .. MOST_RESULT_BYTES
  .. ' bytes together: let them return paths or ids.'

-- What one script does for workflows, in bytes that jobs are given; one that is canceled counts as some.  The rest follows
-- at once: ended_parts.lua begins with it.
local CANCELED_BYTES, work_left, is_postponed = 5000, MOST_RESULT_BYTES, false
local function postpone(id)
  is_postponed = true
  call_own('ZADD', OWN .. 'joins', 0, id)
end

local function forget_wait(id)
  call('DEL', OWN .. 'join:' .. id, OWN .. 'pending:' .. id)
  call_own('ZREM', OWN .. 'joins', id)
end

-- RQ's registry decides, so that a job is released or canceled once, whichever script comes first.
local function still_waits(id, queue)
  return queue and try('ZSCORE', RQ .. 'deferred:' .. queue, id) and call('EXISTS', job_key(id)) == 1
end

-- Cancel a job that waits and what waits for that: a chain ends where a part of it has not finished.
-- Each remembers the part before it (`broken_by`, if it is of a chain): see `mend_chain`.
local function cancel_waiting(id, reason, broken_by)
  while id and id ~= '' do
    if work_left <= 0 then return postpone(id) end
    work_left = work_left - CANCELED_BYTES
    local queue = call('HGET', OWN .. 'join:' .. id, 'queue')
    forget_wait(id)
    if not still_waits(id, queue) then return end
    cancel(queue, id, reason)
    try('ZREM', RQ .. 'deferred:' .. queue, id)
    if broken_by then call('HSET', job_key(id), 'jiffy:broken_by', broken_by) end
    broken_by = broken_by and id
    id = call('HGET', job_key(id), 'jiffy:join')
  end
end

-- A part had failed and broken its chain; it was retried by hand and has finished: what was canceled
-- because of it waits again.
local function mend_chain(id, part)
  local key, join = job_key(id), OWN .. 'join:' .. id
  local job = fields(key, 'status', 'jiffy:broken_by', 'origin', 'data')
  if not job or job[1] ~= 'canceled' or job[2] ~= part then return end
  call_own('ZADD', RQ .. 'deferred:' .. job[3], time[1], id)
  try('ZREM', RQ .. 'canceled:' .. job[3], id)
  call('HSET', key, 'status', 'deferred')
  call('HDEL', key, 'jiffy:broken_by', 'jiffy:reason')
  keep(id)
  call('HSET', join, 'queue', job[3], 'needs', 'success', 'count', 1)
  if string.find(job[4], RESULT, 1, true) then call('HSET', join, 'data', job[4]) end
  call('ZADD', OWN .. 'pending:' .. id, 0, part)
end

-- From here on it is a job like any other: what the others returned stands in its arguments.
local function release_waiting(id)
  if work_left <= 0 then return postpone(id) end
  local join, key = OWN .. 'join:' .. id, job_key(id)
  local queue, needs, count, data = unpack(call('HMGET', join, 'queue', 'needs', 'count', 'data'))
  if not still_waits(id, queue) then return forget_wait(id) end
  if data then
    local results = {}
    count = math.min(number_of(count) or 0, call('HLEN', join))
    for first = 0, count - 1, MOST_KEYS do
      local numbers = {}
      for number = first, math.min(first + MOST_KEYS, count) - 1 do numbers[#numbers + 1] = number end
      for _, result in ipairs(call('HMGET', join, unpack(numbers))) do results[#results + 1] = result end
    end
    local is_whole, value = pcall(table.concat, results, ', ')
    if not is_whole then return cancel_waiting(id, 'Not all that its parts returned is there.', false) end
    if needs ~= 'success' then value = '[' .. value .. ']' end
    local _, places = string.gsub(data, RESULT, '')
    if places > 1 and places * #value > MOST_RESULT_BYTES then return cancel_waiting(id, TOO_LARGE, false) end
    work_left = work_left - #data - places * #value
    call('HSET', key, 'data', (string.gsub(data, RESULT, function() return value end)))
  end
  if not enqueue(queue, id, call('HGET', key, 'enqueue_at_front') == '1') then return end
  try('ZREM', RQ .. 'deferred:' .. queue, id)
  forget_wait(id)
end

local HOW_IT_ENDED = {failed = 'failed', stopped = 'was stopped', canceled = 'was canceled', gone = 'is gone'}

-- A part has ended: note it for the job that waits for it; the last part enqueues that job.  Repeating
-- this changes nothing.  `value` and `error` are JSON.  The part '' is the producer: until it has
-- written all parts, the job waits for it too.
local function part_ended(id, part, status, value, error)
  local pending, join = OWN .. 'pending:' .. id, OWN .. 'join:' .. id
  if status == 'finished' then mend_chain(id, part) end
  local number = call('ZSCORE', pending, part)
  if number then
    local needs, data = unpack(call('HMGET', join, 'needs', 'data'))
    if part == '' and status ~= 'finished' then
      return cancel_waiting(id, 'Its producer ended before all parts were written.', false)
    elseif part == '' then
      call('HSET', join, 'written', 1)  -- what a broken connection brings late does not open it again
    elseif needs == 'success' and status ~= 'finished' then
      local line = cjson.decode('[' .. error .. ']')[1]
      local reason = 'A part before it, ' .. part .. ', ' .. HOW_IT_ENDED[status]
      if type(line) == 'string' then reason = string.find(line, '^A part before it, ') and line or reason .. ': ' .. line end
      return cancel_waiting(id, reason, part)
    elseif data then
      if needs ~= 'success' then
        value = string.format('{"id": "%s", "status": "%s", "result": ', part, status) .. value
          .. ', "error": ' .. error .. '}'
      end
      call('HSET', join, number, value)
      if call('HINCRBY', join, 'bytes', #value) > MOST_RESULT_BYTES then
        return cancel_waiting(id, TOO_LARGE, false)
      end
    end
    call('ZREM', pending, part)
  end
  if call('ZCARD', pending) == 0 then release_waiting(id) end
end

-- Pauses: queues from which nothing is claimed, and functions whose jobs are parked until they are resumed.

local LAST = 253402300799  -- a calendar's last second

-- A pause as entries.py has written it; nil if its time has passed, or if it could not be shown: a pause that workers or a
-- scheduler obey must be visible.
local function read_pause(raw)
  local is_json, pause = pcall(cjson.decode, #raw < 10000 and raw or '')
  if not is_json or type(pause) ~= 'table' then return nil end
  local since, ends = pause.since, pause['until']
  if ends == cjson.null then ends = LAST end
  local is_sound = type(pause.who) == 'string' and type(pause.why) == 'string'
    and type(since) == 'number' and since >= 0 and since <= LAST and type(ends) == 'number' and ends <= LAST
  return is_sound and ends > tonumber(NOW) and pause or nil
end

-- What is paused now: {'queue:NAME' or 'func:PATH' = true}.  All that is not in force is deleted.
local function read_pauses()
  local paused, flat = {}, some_of(OWN .. 'paused')
  for i = 1, #flat, 2 do
    if read_pause(flat[i + 1]) then paused[flat[i]] = true else call('HDEL', OWN .. 'paused', flat[i]) end
  end
  return paused
end

-- The function of a job; nil if its data, a stock producer's, does not say it in plain text: then the worker sees to it.
local function function_of(data) return string.match(data or '', '^%["([^"]+)"') end

-- Let a job that is on no queue wait for its function to be resumed; `place`: the later ones come behind.
local function park(id, path, place)
  call_own('ZADD', OWN .. 'parked:' .. path, NOW + place * 1e-6, id)
  call_own('SADD', OWN .. 'parked', path)
  try('HSET', job_key(id), 'status', 'queued', 'jiffy:parked', path)
  -- Others of its rate limit may run meanwhile.
  local limit = (fields(job_key(id), 'rate_limit_key') or {})[1]
  if limit and try('ZREM', RQ .. 'rl:' .. limit .. ':allowed', id) == 1 then fill_slots(limit) end
end

-- Put up to `most` jobs whose function is paused no more back to the front of their queues, in order; return how many.
local function unpark(paused, most)
  local moved = 0
  for name in pairs(paused) do  -- the set of them may have been lost
    local path = string.match(name, '^func:(.*)')
    if path and call('EXISTS', OWN .. 'parked:' .. path) == 1 then call_own('SADD', OWN .. 'parked', path) end
  end
  for _, path in ipairs(call_own('SRANDMEMBER', OWN .. 'parked', 100)) do
    local parked = OWN .. 'parked:' .. path
    local is_over = moved < most and not paused['func:' .. path]
    for _, id in ipairs(is_over and try('ZREVRANGE', parked, 0, most - moved - 1) or {}) do
      local job = fields(job_key(id), 'status', 'origin', 'jiffy:parked', 'rate_limit_key')
      local is_still = job and job[1] == 'queued' and job[2] and job[3] == path
      local put_back, deadline = job and job[4] and enqueue or push, is_still and call_own('ZSCORE', OWN .. 'expiring', id)
      if not is_still or put_back(job[2], id, true) then
        if is_still then call('HDEL', job_key(id), 'jiffy:parked') end
        if deadline then call('ZADD', OWN .. 'expiring', deadline, id) end  -- `enqueue` gives a new one
        call('ZREM', parked, id)
        moved = moved + 1
      end
    end
    if call('EXISTS', parked) == 0 then call('SREM', OWN .. 'parked', path) end
  end
  return moved
end
