-- Write jobs that wait for something before they come onto their queue: for other jobs (`depends_on`), for a slot of their
-- rate limit, or, one of a chain or group, for parts, which are written after it.
-- KEYS: see write.lua
-- ARGV: see write.lua; behind the jobs, needs ('', or what a workflow's job needs of its parts: success: of the one;
--       end), seconds until the producer will have written them all or '' (it has, in this transaction), the number of the
--       first of these parts, their ids between commas
-- Returns as enqueue.lua does, or the id of a job that they depend on and that is not there
--include lib
--include release
local status, last = 'deferred', #ARGV - 4
local needs, open_s, number, parts = unpack(ARGV, last + 1)
if needs ~= '' and tonumber(number) > 0 and call('EXISTS', job_key(ARGV[last - 2])) == 0 then return {} end
--include write
if needs ~= '' then
  local id = ARGV[first]
  local join, pending = OWN .. 'join:' .. id, OWN .. 'pending:' .. id
  if #ids > 0 then
    call('ZADD', RQ .. 'deferred:' .. name, time[1], id)
    call('HSET', join, 'queue', name, 'needs', needs)
    if string.find(ARGV[first + 1], RESULT, 1, true) then call('HSET', join, 'data', ARGV[first + 1]) end
    call('ZADD', OWN .. 'joins', time[1], id)
    call('HSET', job_key(id), 'jiffy:parts', string.sub(parts, 1, 3699))  -- a hundred: they are only shown
  elseif call('EXISTS', join) == 0 then
    return {}  -- this is repeated, and it waits no more
  end
  if open_s ~= '' then call('ZADD', pending, -(time[1] + open_s), '') end
  for part in string.gmatch(parts, '[^,]+') do
    call('ZADD', pending, number, part)
    number = number + 1
  end
  call('HSET', join, 'count', number)
  return {}
end

local waits, may_fail = false, #ids > 0 and call('HGET', job_key(ids[1]), 'allow_dependency_failures') == '1'
for i = 2, #KEYS do
  local its = call('HGET', KEYS[i], 'status')
  waits = waits or not (its == 'finished' or its == 'failed' and may_fail)
end
for _, id in ipairs(ids) do
  if waits then
    call('ZADD', RQ .. 'deferred:' .. name, time[1], id)
    for i = 2, #KEYS do
      call('SADD', KEYS[i] .. ':dependents', id)
      call('SADD', RQ .. 'job::' .. id .. ':dependencies', string.sub(KEYS[i], #RQ + 5))
    end
  else
    enqueue(name, id, how == 'LPUSH')
  end
end
return taken[1] and taken or 1
