-- Enqueue the scheduled jobs (delayed ones, retries after a pause) whose time has come, and cancel the queued ones whose
-- time to begin has passed (`expires`); bring parked jobs back whose function is not paused any more.  Or only wake a
-- sleeping worker where a producer that knows nothing of us has pushed a job.
-- KEYS: the queues
-- ARGV: how many jobs at most ("wake": only that), the time limit in s of a job that has none
-- Returns how many were enqueued; of each canceled job its id, queue and reason; and whether more may be late (0 or 1)
--include lib
--include waiting
even_if_full()
local paused = call('EXISTS', OWN .. 'paused', OWN .. 'parked') > 0 and read_pauses()
if ARGV[1] == 'wake' then
  for _, key in ipairs(KEYS) do
    local length, queue = try('LLEN', key), queue_of(key)
    if type(length) == 'number' and length > 0 and not (paused and paused['queue:' .. queue]) then wake(queue) end
  end
  return {0, {}, 0}
end
local left, expired = tonumber(ARGV[1]), {}
local moved = paused and unpark(paused, left) or 0
for _, key in ipairs(KEYS) do
  local queue = queue_of(key)
  local is_sound = type(try('LLEN', key)) == 'number'
  -- Where RQ's own scheduler is at work, it does this, and not in one step: two would double jobs.  Its lock ends within
  -- minutes, unless it is renewed.
  local locked_s = left > 0 and is_sound and call('TTL', RQ .. 'scheduler-lock:' .. queue)
  if locked_s and (locked_s < 0 or locked_s > 600) then
    local scheduled = RQ .. 'scheduled:' .. queue
    local ids = try('ZRANGEBYSCORE', scheduled, '-inf', NOW, 'LIMIT', 0, left)
    left = left - #ids
    for _, id in ipairs(ids) do
      local job = fields(job_key(id), 'timeout', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'ended_at')
      local is_gone = job and call('EXISTS', job_key(id)) == 0
      if job and not is_gone and not job[1] then call('HSET', job_key(id), 'timeout', ARGV[2]) end
      local is_front = job and (job[2] == '1' or (job[3] == '1' and job[4]))
      if is_gone or enqueue(queue, id, is_front) then call('ZREM', scheduled, id) end
      if not is_gone then moved = moved + 1 end
    end
  end
end

-- Taking the id off its queue decides: a worker may be quicker.  Those that wait longest are found first, so this
-- costs little in a long queue too.
local places_left = 200 * MOST_KEYS
local late = call_own('ZRANGEBYSCORE', OWN .. 'expiring', '-inf', NOW, 'LIMIT', 0, MOST_KEYS / 2)
for _, id in ipairs(late) do
  local status, queue, expires, limit, parked =
    unpack(fields(job_key(id), 'status', 'origin', 'jiffy:expires', 'rate_limit_key', 'jiffy:parked') or {})
  local list, expires_s, is_taken_off = RQ .. 'queue:' .. (queue or ''), number_of(expires), 0
  if queue and expires_s and status == 'queued' and parked then
    is_taken_off = call_own('ZREM', OWN .. 'parked:' .. parked, id)
  elseif queue and expires_s and status == 'queued' then
    local place, length = try('LPOS', list, id), try('LLEN', list)
    places_left = places_left - (type(place) == 'number' and place or type(length) == 'number' and length or 0)
    is_taken_off = type(place) == 'number' and call('LREM', list, 1, id)
  elseif queue and expires_s and status == 'rate_limited' and limit then
    is_taken_off = try('ZREM', RQ .. 'rl:' .. limit .. ':rate_limited', id)
  end
  if is_taken_off == 1 then
    for _, value in ipairs({id, queue, expire(queue, id, expires_s)}) do expired[#expired + 1] = value end
  else
    call('ZREM', OWN .. 'expiring', id)
  end
  if places_left <= 0 then break end
end
return {moved, expired, places_left > 0 and #late == MOST_KEYS / 2 and 1 or 0}
