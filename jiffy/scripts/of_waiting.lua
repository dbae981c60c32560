-- Defines waiting.lua's functions when they are first needed: a script pays for each function that it defines, and few jobs
-- have anything that waits.  Goes with lib.lua; expects no KEYS and ARGV of its own.
local waiting
local function of_waiting()
  if waiting then return waiting end
--include waiting
  waiting = {cancel = cancel, enqueue = enqueue, expire = expire, free_slot = free_slot, function_of = function_of, park = park,
    part_ended = part_ended, read_pauses = read_pauses, release_dependents = release_dependents}
  return waiting
end

-- Put what a worker holds back to the front of its queue; false if that cannot be done now: then the worker goes on holding
-- it.  What has not begun goes back as if it had never been claimed: it is still to begin in time.  What was to be stopped
-- since is canceled.
local function requeue(worker, held, has_begun)
  local member, queue, id = unpack(held)
  local key, is_its = job_key(id), still_runs(worker, held)
  local due, stopped = unpack(is_its and fields(RQ .. 'execution:' .. member, 'jiffy:due', 'jiffy:stopped') or {})
  if is_its and not stopped then
    if not push(queue, id, true) then return false end
    try('HSET', key, 'status', 'queued')
    local due_s = not has_begun and number_of(due)
    if due_s and try('HEXISTS', key, 'jiffy:expires') == 1 then
      call_own('ZADD', OWN .. 'expiring', due_s, id)
    elseif due_s then
      try('EXPIRE', key, math.max(1, math.ceil(due_s - NOW)))
    end
  end
  end_executions(worker, queue, {held})
  if is_its and stopped then of_waiting().cancel(queue, id, 'Stopped by command.') end
  return true
end
