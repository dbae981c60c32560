-- Write a job that depends on others, in one step and once: it waits for them, or goes on its queue if they are over.
-- KEYS: the queue
-- ARGV: queue's name, how (RPUSH or LPUSH), seconds to live or '', seconds to remember the call or '', job id, the
--       call's token ('': the job id), may the others fail ('1' or ''), now, how many others, their ids, then fields and
--       values of the job as it waits
-- Returns 1 if it is there by this call, 0 if the id is another job's, or the id of one that is not there
--include lib
local name, how, id, token = ARGV[1], ARGV[2], ARGV[5], ARGV[6]
local job = RQ .. 'job:' .. id

-- As in enqueue.lua.
local sent = ARGV[4] ~= '' and OWN .. 'sent:' .. (token == '' and id or token)
if sent and redis.call('EXISTS', sent) == 1 then return 1 end
if redis.call('EXISTS', job) == 1 then
  return (token == '' or redis.call('HGET', job, 'jiffy:call') == token) and 1 or 0
end

local is_enough = {finished = true, failed = ARGV[7] == '1'}
local waits = false
local first = 10 + ARGV[9]
for i = 10, first - 1 do
  local status = redis.call('HGET', RQ .. 'job:' .. ARGV[i], 'status')
  if not status then return ARGV[i] end
  waits = waits or not is_enough[status]
end

-- What can fail comes first: nothing is undone when a script ends with an error.
redis.call('SADD', RQ .. 'queues', KEYS[1])
if waits then
  redis.call('ZADD', RQ .. 'deferred:' .. name, time[1], id)
  for i = 10, first - 1 do
    redis.call('SADD', RQ .. 'job:' .. ARGV[i] .. ':dependents', id)
    redis.call('SADD', RQ .. 'job::' .. id .. ':dependencies', ARGV[i])
  end
end
redis.call('HSET', job, unpack(ARGV, first))
if token ~= '' then redis.call('HSET', job, 'jiffy:call', token) end
if ARGV[3] ~= '' then redis.call('EXPIRE', job, ARGV[3]) end
if sent then redis.call('SET', sent, 1, 'EX', ARGV[4]) end
if not waits then enqueue(name, id, how == 'LPUSH') end
return 1
