-- Act on a job, in one step, or leave it alone: cancel one that has not begun, retry one that failed, was stopped or
-- canceled (it goes back on its queue), delete one that does not run, tell the worker of one that runs to stop it.
-- KEYS: the job
-- ARGV: its id; cancel, retry, delete or stop; the time limit in s of a job that has none; the channel of commands, without the
--       worker's name, and the command; the only status in which it is to be done ('': whichever)
-- Returns the status that the job had ('' for none); 1 if it was done, else 0; for stop: its worker's name, and how many
--         heard the command
--include lib
--include waiting
local key, id, action = KEYS[1], ARGV[1], ARGV[2]
local job = fields(key, 'status', 'origin', 'jiffy:reason', 'rate_limit_key', 'allow_dependency_failures', 'ttl', 'data',
  'worker_name', 'jiffy:parked', 'jiffy:parts')
if not job or call('EXISTS', key) == 0 then return {'', 0} end
local status, queue, reason, limit, may_fail, ttl, data, worker, parked, parts = unpack(job)
status, queue, worker = status or 'unknown', queue or '', worker or ''
if ARGV[6] ~= '' and ARGV[6] ~= status then return {status, 0} end

local is_deletion = action == 'delete' and status ~= 'started'
if is_deletion and (type(try('ZSCORE', RQ .. 'scheduler:scheduled_jobs', id)) == 'string'
  or try('SISMEMBER', OWN .. 'entries', id) == 1) then return {status, 0} end  -- it is an entry of the schedule

if action == 'cancel' or is_deletion then
  -- The status alone is not enough: a worker of RQ's may have popped the id and not marked it yet.
  local waits_in = ({scheduled = 'scheduled:' .. queue, deferred = 'deferred:' .. queue, ready_to_enqueue = 'ready:' .. queue,
    rate_limited = limit and 'rl:' .. limit .. ':rate_limited'})[status]
  -- Given an id twice, RQ names it twice on its queue.  In a long one only the first is looked for.
  local list = RQ .. 'queue:' .. queue
  local taken_off = status == 'queued' and parked and call_own('ZREM', OWN .. 'parked:' .. parked, id)
    or status == 'queued' and call('LREM', list, call('LLEN', list) > 10 * MOST_KEYS and 1 or 0, id)
    or waits_in and call('ZREM', RQ .. waits_in, id)
  if not is_deletion and (not taken_off or taken_off == 0) then return {status, 0} end
  call_own('ZREM', OWN .. 'expiring', id)  -- first: a script that has deleted may write even where Redis is full
  -- A process that is just releasing it in RQ's way has read that it waits, and watches these sets: touch them.
  local parents = RQ .. 'job::' .. id .. ':dependencies'
  for _, parent in ipairs(try('SRANDMEMBER', parents, MOST_KEYS)) do
    local dependents = job_key(parent) .. ':dependents'
    if try('SISMEMBER', dependents, id) == 1 then  -- and a set that is emptied loses its end
      call('SADD', dependents, '')
      call('SREM', dependents, '')
    end
  end
  if is_deletion then  -- mirrors rq.job.Job.delete
    for _, registry in ipairs({'finished:', 'failed:', 'canceled:', 'scheduled:', 'deferred:', 'ready:'}) do
      try('ZREM', RQ .. registry .. queue, id)
    end
    local executions = RQ .. 'executions:' .. id  -- by these a rate limit knows what runs still, though it was canceled
    for _, execution in ipairs(not limit and try('ZRANGE', executions, 0, MOST_KEYS) or {}) do
      local member = member_of(id, execution)
      try('ZREM', RQ .. 'wip:' .. queue, member)
      call('DEL', RQ .. 'execution:' .. member)
    end
    call('DEL', key, key .. ':dependents', parents, RQ .. 'results:' .. id, limit and key or executions)
  else
    call('HSET', key, 'status', 'canceled')
    call('HDEL', key, 'jiffy:parked')
    -- If it was to be retried, this is a traceback: what it raised stands behind the last frame.
    local raised = reason
      and (string.match(reason, '^.*\n [^\n]*\n([^ \n][^\n]*)') or string.match(reason, '^.*\n(.*)') or reason)
    if raised then call('HSET', key, 'jiffy:reason', 'It was not tried again after ' .. raised) end
    call_own('ZADD', RQ .. 'canceled:' .. queue, NOW, id)
  end
  if limit then free_slot(limit, id) end
elseif action == 'retry' then
  local registry = ({failed = 'failed:', stopped = 'failed:', canceled = 'canceled:'})[status]
  -- A part of a workflow that never got what the others return cannot run; nor may one of a chain before the part that it
  -- waited for has finished, while that is there.
  local before = not string.find(parts or ',', ',') and (fields(job_key(parts), 'status') or {})[1]
  local is_unfit = status == 'canceled' and (before and before ~= 'finished' or string.find(data or '', RESULT, 1, true))
  -- One that was canceled as it waited for others waits on, as long as one of them has not ended.
  looks_left = 10 * looks_left
  local is_ready = status ~= 'canceled' or is_met(id, may_fail == '1')
  if not registry or queue == '' or is_unfit or is_ready == nil then return {status, 0} end
  call('HSET', key, 'started_at', '', 'ended_at', '')
  call('HSETNX', key, 'timeout', ARGV[3])
  keep(id)
  if not is_ready then
    call_own('ZADD', RQ .. 'deferred:' .. queue, time[1], id)
    call('HSET', key, 'status', 'deferred')
    limit_life(id, ttl)
  elseif not enqueue(queue, id, false) then
    return redis.error_reply('WRONGTYPE the key of queue ' .. queue .. ' holds something else')
  end
  try('ZREM', RQ .. registry .. queue, id)
  -- Crashes count anew: a person has looked at it.
  call('HDEL', key, 'jiffy:crashes', 'jiffy:causes', 'jiffy:reason', 'jiffy:broken_by', 'jiffy:progress', 'jiffy:parked',
    'jiffy:replaced', 'exc_info')
elseif action == 'stop' and status == 'started' then
  local heard = call('PUBLISH', ARGV[4] .. worker, ARGV[5])
  -- It may have been claimed and not begun: should it go back to its queue, it is canceled there.
  for _, execution in ipairs(heard > 0 and try('ZRANGE', RQ .. 'executions:' .. id, 0, MOST_KEYS) or {}) do
    local record = RQ .. 'execution:' .. member_of(id, execution)
    if call('EXISTS', record) == 1 then try('HSET', record, 'jiffy:stopped', 1) end
  end
  return {status, 1, worker, heard}
else
  return {status, 0}
end
return {status, 1}
