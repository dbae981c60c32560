-- Settle one execution with the commands that RQ's own methods wrote down, all or none.
-- KEYS: the started registry of the job's queue
-- ARGV: job:execution, the job's status if it is over for good or '', its result and its error as JSON, now as text,
--       then per command the number of its words and the words
-- Returns 1, or 0 where the execution is not (or no longer) the worker's own: then no outcome is
-- written
--include join
local id, execution = string.match(ARGV[1], '^(.*):([^:]*)$')
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  redis.call('DEL', 'rq:execution:' .. ARGV[1])
  redis.call('ZREM', 'rq:executions:' .. id, execution)
  return 0
end
-- Read before RQ's commands, which may delete the job.
local waiting = ARGV[2] ~= '' and redis.pcall('HGET', 'rq:job:' .. id, 'jiffy:join')
local i = 6
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  -- pcall: a command that a broken job makes Redis refuse must not stop what follows.
  redis.pcall(unpack(ARGV, i + 1, i + words))
  local queue = string.match(ARGV[i + 2] or '', '^rq:queue:(.*)$')
  if queue and string.match(ARGV[i + 1], '^[LR]PUSH$') then
    wake(queue)
  end
  i = i + words + 1
end
if type(waiting) == 'string' then
  pcall(member_is_over, waiting, id, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
end
return 1
