-- Settle one execution with the commands that RQ's own methods wrote down, all or none.
-- KEYS: the started registry of the job's queue
-- ARGV: job:execution, the job's status if it is over for good or '', its result and its error as JSON, now as text,
--       the lengths of the words of each command (3,7,2;4,9;…), all words in one
-- Returns 1, or 0 where the execution is not (or no longer) the worker's own: then no outcome is
-- written
--include join
--include put
local id, execution = string.match(ARGV[1], '^(.*):([^:]*)$')
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  redis.call('DEL', 'rq:execution:' .. ARGV[1])
  redis.call('ZREM', 'rq:executions:' .. id, execution)
  return 0
end
-- Read before RQ's commands, which may delete the job.
local waiting = ARGV[2] ~= '' and redis.pcall('HGET', 'rq:job:' .. id, 'jiffy:join')
local at, ready = 1, {}
for lengths in string.gmatch(ARGV[6], '[^;]+') do
  local words = {}
  for length in string.gmatch(lengths, '%d+') do
    words[#words + 1] = string.sub(ARGV[7], at, at + length - 1)
    at = at + length
  end
  -- pcall: a command that a broken job makes Redis refuse must not stop what follows.
  redis.pcall(unpack(words))
  local waits = words[1] == 'ZADD' and string.match(words[2], '^rq:ready:(.*)$')
  if waits then ready[#ready + 1] = {words[4], waits} end
  local queue = string.match(words[2] or '', '^rq:queue:(.*)$')
  if queue and string.match(words[1], '^[LR]PUSH$') then pcall(wake, queue) end
end
for _, dependent in ipairs(ready) do pcall(put_ready, unpack(dependent)) end
if type(waiting) == 'string' then
  pcall(member_is_over, waiting, id, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
end
return 1
