-- Renew the leases of one supervisor's workers, and of all that they hold, in RQ's registries too.
-- KEYS: leases
-- ARGV: lease in s, for how many s RQ is to know of an idle worker, then for each worker: its name, its memory in bytes,
--       whether it is quiet ('yes' or ''), its part of executions, its birth as RQ writes it
-- Returns the names whose lease or hash was gone, each with the executions that are still its own, with commas between: others
--         may be running the rest by now, and RQ knows nothing of it.  The lease is back when this is sent again, the hash not;
--         and, with nil, those that another worker has by now
--include lib
even_if_full()
local gone = {}
local function renew(worker, memory, quiet, token, birth)
  local key, executions = RQ .. 'worker:' .. worker, RQ .. 'worker:' .. worker .. ':executions'
  local owner, born = unpack(fields(key, 'jiffy:token', 'birth') or {})
  local is_other = owner and owner ~= token
  -- Only a worker that was born later has taken the name: an older copy of Redis may bring back one from before.
  if is_other and born and born > birth then
    gone[#gone + 1], gone[#gone + 2] = worker, false
    return
  end
  local is_gone, still = not call_own('ZSCORE', KEYS[1], worker), {}
  call('ZADD', KEYS[1], NOW + ARGV[1], worker)
  hold_lost(worker, token)
  local all_held = held_by(worker)
  local ttl_s = #all_held > 0 and 90 or ARGV[2]
  try('HSET', key, 'last_heartbeat', date(), 'jiffy:memory', memory, 'jiffy:quiet', quiet)
  call('EXPIRE', key, ttl_s)
  call('EXPIRE', executions, ttl_s)
  for _, held in ipairs(all_held) do
    local member, queue, id, execution = unpack(held)
    -- RQ's own cleaners look at this score: they find these jobs only where all of us are gone.
    local is_own = try('ZADD', RQ .. 'wip:' .. queue, 'XX', 'CH', NOW + 90, member) == 1
      or is_lost(worker, id, member) and try('ZADD', RQ .. 'wip:' .. queue, NOW + 90, member) == 1
    -- Also of one that was canceled while it runs: it keeps the slot of its rate limit until it ends.
    if is_own or call('EXISTS', RQ .. 'execution:' .. member) == 1 then
      try('HSET', RQ .. 'execution:' .. member, 'id', execution, 'job_id', id, 'last_heartbeat', NOW,
        'worker_name', worker)
      try('HSETNX', RQ .. 'execution:' .. member, 'created_at', NOW)
      call('EXPIRE', RQ .. 'execution:' .. member, 90)
      try('ZADD', RQ .. 'executions:' .. id, NOW + 150, execution)
      call('EXPIRE', RQ .. 'executions:' .. id, 150)
    end
    if is_own then still[#still + 1] = execution end
    if is_own and fields(job_key(id), 'status') and call('EXISTS', job_key(id)) == 1 then
      call('HSET', job_key(id), 'last_heartbeat', date())
    end
  end
  -- It may have expired, and be there again with what is written here and by the claim alone.
  local is_known = born and not is_other
  if is_known then name_worker('SADD', key) end  -- these sets, too, may have been lost
  if is_gone or not is_known then gone[#gone + 1], gone[#gone + 2] = worker, table.concat(still, ',') end
end
for i = 3, #ARGV, 5 do renew(unpack(ARGV, i, i + 4)) end
return gone
