-- Count every queue's jobs and what serves them, for all pages at once.
-- KEYS: the set of queues, the set of workers, the scheduler's lead, the schedule's entries, the mark that suspends workers
-- ARGV: the most queues and workers to look at; the prefixes of the registries
-- Returns how many queues and workers are named, how many of the workers looked at are alive, whether a scheduler leads,
--         how many entries are to run, whether workers are suspended, and for each queue: its key, how many jobs wait
--         (false: its key holds another type), when the oldest was enqueued, whether a worker listens, the registries' counts
local RQ, most = '@RQ@', tonumber(ARGV[1])
local function count(command, key)
  local found = redis.pcall(command, key)
  return type(found) == 'number' and found
end
local function members(key)
  local found = redis.pcall('SRANDMEMBER', key, most)
  return found.err and {} or found
end
local function is_heard(queue)
  for _, worker in ipairs(members(RQ .. 'workers:' .. queue)) do
    if redis.call('EXISTS', worker) == 1 then return 1 end
  end
  return 0
end

local alive, queues = 0, {}
for _, worker in ipairs(members(KEYS[2])) do alive = alive + redis.call('EXISTS', worker) end
for i, key in ipairs(members(KEYS[1])) do
  local queue, waiting, since = string.sub(key, #RQ + #'queue:' + 1), count('LLEN', key), false
  if waiting and waiting > 0 then
    since = redis.pcall('HGET', RQ .. 'job:' .. redis.call('LINDEX', key, 0), 'enqueued_at')
  end
  queues[i] = {key, waiting, type(since) == 'string' and #since < 64 and since, is_heard(queue)}
  for j = 2, #ARGV do queues[i][j + 3] = count('ZCARD', ARGV[j] .. queue) end
end
return {count('SCARD', KEYS[1]), count('SCARD', KEYS[2]), alive, redis.call('EXISTS', KEYS[3]),
  count('ZCARD', KEYS[4]), redis.call('EXISTS', KEYS[5]), queues}
