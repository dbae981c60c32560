-- What most scripts share: the names of keys, where the loader puts the prefixes in, and how a job gets onto a queue.
-- Expects no KEYS and ARGV of its own.  Short, since a script pays for each function that it defines.
local RQ, OWN = '@RQ@', '@OWN@'
-- `try` answers with a table that has `err` where a key holds something else: it is for what must not keep a script from
-- the rest of its work, and whose loss loses no job.
local call, try = redis.call, redis.pcall

local function job_key(id) return RQ .. 'job:' .. id end

-- Wake one worker that sleeps at a queue, unless one has been woken and has not looked yet.
local function wake(queue)
  local token = OWN .. 'wake:' .. queue
  if try('LLEN', token) == 0 then call('LPUSH', token, 1) end
end

-- Put a job on its queue; false where the queue's key holds something else.
local function push(queue, id, is_front)
  local key = RQ .. 'queue:' .. queue
  local length = try(is_front and 'LPUSH' or 'RPUSH', key, id)
  if type(length) ~= 'number' then return false end
  try('SADD', RQ .. 'queues', key)
  wake(queue)
  return true
end
