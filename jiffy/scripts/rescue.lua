-- Put the jobs of a dead worker back to the front of their queues, in their old order.
-- KEYS: leases, what the worker held
-- ARGV: worker, "gone" or "here", batch and position of the job that ran ("" if unknown), what to do
--       with that one (count, leave, free), the cause, how many deaths are too many
-- Returns [rescued ids], and [queue, id, execution, causes, since when it ran] of jobs that must be failed instead
--include wake
local worker, is_gone, batch, position = ARGV[1], ARGV[2] == 'gone', ARGV[3], tonumber(ARGV[4])
local verdict, cause, too_many = ARGV[5], ARGV[6], tonumber(ARGV[7])
local raw = redis.call('GET', KEYS[2])
local held, alive = raw and cjson.decode(raw) or {}, {}
for _, h in ipairs(held) do
  if redis.call('ZSCORE', 'rq:wip:' .. h[1], h[2] .. ':' .. h[3]) then alive[#alive + 1] = h end
end

-- Which one ran when the worker died?  Its supervisor knows the place in the batch.  If that is gone
-- too, a job that was alone is to blame; of several none is, but each is taken alone from now on.
local culprit
if batch ~= '' then
  local tail = batch .. string.format('%08x', math.max(position, 0))
  for _, h in ipairs(held) do
    if string.sub(h[3], 17) == tail then culprit = h[3] end
  end
elseif is_gone and #alive == 1 then
  culprit = alive[1][3]
end

local rescued, left, keep = {}, {}, {}
for i = #alive, 1, -1 do
  local queue, id, execution = alive[i][1], alive[i][2], alive[i][3]
  local job, aside = 'rq:job:' .. id, false
  local is_hash = redis.call('TYPE', job).ok == 'hash'
  if execution == culprit then
    aside = verdict == 'leave'
    local once = is_hash and redis.call('HGET', job, 'jiffy:rescue') == 'no'
    if is_hash and (verdict == 'count' or once) then
      local causes = redis.call('HGET', job, 'jiffy:causes')
      causes = (causes and causes .. '\n' or '') .. cause
      redis.call('HSET', job, 'jiffy:causes', causes, 'jiffy:alone', 1)
      local deaths = redis.call('HINCRBY', job, 'jiffy:rescues', 1)
      aside = aside or deaths >= too_many or once
    end
    if aside then
      local told = is_hash and redis.call('HMGET', job, 'jiffy:causes', 'started_at') or {}
      left[#left + 1] = {queue, id, execution, told[1] or cause, told[2] or ''}
      keep[#keep + 1] = alive[i]
    end
  elseif is_gone and not culprit and is_hash then
    redis.call('HSET', job, 'jiffy:alone', 1)
  end
  if not aside then
    redis.call('ZREM', 'rq:wip:' .. queue, id .. ':' .. execution)
    redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
    redis.call('ZREM', 'rq:executions:' .. id, execution)
    redis.call('SREM', 'rq:worker:' .. worker .. ':executions', id .. ':' .. execution)
    if redis.call('EXISTS', job) == 1 then
      redis.call('LPUSH', 'rq:queue:' .. queue, id)
      if is_hash then redis.call('HSET', job, 'status', 'queued') end
      wake(queue)
      rescued[#rescued + 1] = id
    end
  end
end

if not is_gone and redis.call('EXISTS', 'rq:worker:' .. worker) == 1 then
  redis.call('HSET', 'rq:worker:' .. worker, 'state', 'idle')
end
if #keep > 0 then
  redis.call('SET', KEYS[2], cjson.encode(keep))
else
  redis.call('DEL', KEYS[2])
  if is_gone then
    redis.call('ZREM', KEYS[1], worker)
    redis.call('DEL', 'jiffy:turn:' .. worker)
    local key = 'rq:worker:' .. worker
    for queue in string.gmatch(redis.call('HGET', key, 'queues') or '', '[^,]+') do
      redis.call('SREM', 'rq:workers:' .. queue, key)
    end
    redis.call('SREM', 'rq:workers', key)
    redis.call('DEL', key, key .. ':executions')
  end
end
return {rescued, left}
