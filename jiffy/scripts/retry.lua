-- Put a job that failed, was stopped or canceled back on its queue, in one step.
-- KEYS: the job
-- ARGV: its id, the time limit in s of a job that has none
-- Returns the status that the job had ('' for none), and 1 if it was put back by this call, else 0
--include lib
--include release
local key, id = KEYS[1], ARGV[1]
local REGISTRY = {failed = 'failed:', stopped = 'failed:', canceled = 'canceled:'}
local job = fields(key, 'status', 'origin', 'allow_dependency_failures', 'ttl', 'data')
if not job or call('EXISTS', key) == 0 then return {'', 0} end
local status, queue = job[1] or 'unknown', job[2]
-- A part of a workflow that never got what the others return cannot run.
local is_unfit = status == 'canceled' and string.find(job[5] or '', RESULT, 1, true)
if not REGISTRY[status] or not queue or is_unfit then return {status, 0} end

call('HSET', key, 'started_at', '', 'ended_at', '')
call('HSETNX', key, 'timeout', ARGV[2])
call('PERSIST', key)
-- One that was canceled as it waited for others waits on, as long as one of them has not ended.
if status == 'canceled' and not is_met(id, job[3] == '1') then
  call('ZADD', RQ .. 'deferred:' .. queue, time[1], id)
  call('HSET', key, 'status', 'deferred')
  if job[4] then try('EXPIRE', key, job[4]) end
elseif not enqueue(queue, id, false) then
  return redis.error_reply('WRONGTYPE the key of queue ' .. queue .. ' holds something else')
end
call('ZREM', RQ .. REGISTRY[status] .. queue, id)
-- Crashes count anew: somebody has looked.
call('HDEL', key, 'jiffy:crashes', 'jiffy:causes', 'jiffy:reason', 'jiffy:broken_by', 'jiffy:progress', 'exc_info')
return {status, 1}
