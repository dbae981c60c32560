-- Cancel what nobody has begun in time (`expires`), also where no worker comes to take it.
-- KEYS: the jobs with such a time that have not begun
-- ARGV: how many to look at at most, how many places of queues to look through in all
-- Returns for each that was canceled: id, queue, reason
--include expire
local time = redis.call('TIME')
local now_s = string.format('%d.%06d', time[1], time[2])
local places_left, answer = tonumber(ARGV[2]), {}

-- Only who takes the id off its queue cancels the job: a worker may have been quicker.  Those that wait longest are
-- found first, so that this costs little also in a long queue.
local function is_taken_off(queue, id)
  local place = redis.pcall('LPOS', queue, id)
  if type(place) == 'number' then
    places_left = places_left - place
    return redis.call('LREM', queue, 1, id) == 1
  end
  local length = redis.pcall('LLEN', queue)
  places_left = places_left - (type(length) == 'number' and length or 0)
end

-- Returns in how many seconds to look at it again; nil: it has begun, or is over.
local function look_at(id)
  local job = redis.pcall('HMGET', 'rq:job:' .. id, 'status', 'origin', 'jiffy:expires', 'started_at')
  local expires = not job.err and job[3] and tonumber(string.match(job[3], '^%d+$'))
  if not expires or (job[4] and job[4] ~= '') then return nil end
  if job[1] == 'scheduled' or job[1] == 'deferred' then return expires end  -- it is not on its queue even now
  local waited = job[1] == 'queued' and job[2] and waited_s('rq:job:' .. id, now_s)
  if not waited then return nil end
  if waited <= expires then return expires - waited end
  if is_taken_off('rq:queue:' .. job[2], id) then
    for _, value in ipairs({id, job[2], expire(job[2], id, expires)}) do answer[#answer + 1] = value end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_s, 'LIMIT', 0, ARGV[1])) do
  if places_left <= 0 then break end
  local again_s = look_at(id)
  redis.call('ZREM', KEYS[1], id)  -- also before it is added: a full Redis refuses no more then
  if again_s then redis.call('ZADD', KEYS[1], now_s + again_s, id) end
end
return answer
