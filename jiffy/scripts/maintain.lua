-- Tidy up after RQ and its workers, a little at a time.  Mirrors what BaseWorker.run_maintenance_tasks does for queues,
-- by Redis' own clock.
-- KEYS: the queues
-- ARGV: in how many s it is to be done again at the earliest, how long a job may be between queue and worker in s
-- Returns the jobs that a worker of RQ's has abandoned: {queue, id, execution}; their outcome is for the caller to write;
--         and whether there was more than one call does (0 or 1)
--include lib
even_if_full()
local abandoned, has_more = {}, false

-- Ids that are over and have been kept long enough; '-1' means for ever.
local function forget_old(registry)
  local old = try('ZRANGEBYSCORE', registry, 0, NOW, 'LIMIT', 0, MOST_KEYS)
  if #old > 0 then call('ZREM', registry, unpack(old)) end
  has_more = has_more or #old == MOST_KEYS
end

-- What one of ours holds is not abandoned: recover.lua sees to it, and after an outage of Redis all are this old.
local function find_abandoned(queue)
  local registry = RQ .. 'wip:' .. queue
  for _, member in ipairs(try('ZRANGEBYSCORE', registry, '-inf', NOW, 'LIMIT', 0, 100)) do
    local id, execution = string.match(member, '^(.*):([^:]*)$')
    local job = fields(job_key(id or member), 'status', 'worker_name')
    local is_ours = job and job[2] and call('HEXISTS', OWN .. 'held:' .. job[2], member) == 1
    if is_ours then
      -- its heartbeat renews this entry
    elseif id and job and job[1] == 'started' then
      abandoned[#abandoned + 1] = {queue, id, execution}
    else
      call('ZREM', registry, member)  -- it has ended; only its entry was left
    end
  end
end

-- RQ 3 moves dependents in two steps; a worker that died between them has left these.
local function enqueue_ready(queue)
  local registry = RQ .. 'ready:' .. queue
  for _, id in ipairs(try('ZRANGEBYSCORE', registry, '-inf', NOW - 5, 'LIMIT', 0, 100)) do
    local job = fields(job_key(id), 'status', 'enqueue_at_front')
    if not job or job[1] ~= 'ready_to_enqueue' or enqueue(queue, id, job[2] == '1') then call('ZREM', registry, id) end
  end
end

-- A worker of RQ's moves an id to this list before it says that the job has started.
local function return_intermediate(queue)
  local key = RQ .. 'queue:' .. queue
  local list = key .. ':intermediate'
  for _, id in ipairs(try('LRANGE', list, 0, 99)) do
    local job = fields(job_key(id), 'status')
    if job and job[1] ~= 'queued' then
      call('LREM', list, 1, id)
    elseif not call('GET', OWN .. 'seen:' .. id) then
      call('SET', OWN .. 'seen:' .. id, NOW, 'EX', ARGV[2] * 10)
    elseif NOW - call('GET', OWN .. 'seen:' .. id) > tonumber(ARGV[2]) and push(queue, id, true) then
      call('LREM', list, 1, id)
    end
  end
end

local function forget_workers(queue)
  local registry = RQ .. 'workers:' .. queue
  for _, key in ipairs(try('SRANDMEMBER', registry, 100)) do
    if call('EXISTS', key) == 0 then call('SREM', registry, key) end
  end
end

for _, key in ipairs(KEYS) do
  local queue = string.sub(key, #RQ + 7)
  if call('SET', OWN .. 'maintained:' .. queue, 1, 'NX', 'PX', ARGV[1] * 1000) then
    for _, name in ipairs({'finished:', 'failed:'}) do forget_old(RQ .. name .. queue) end
    find_abandoned(queue)
    enqueue_ready(queue)
    return_intermediate(queue)
    forget_workers(queue)
    if has_more then call('DEL', OWN .. 'maintained:' .. queue) end
  end
end

-- Slots of jobs that have ended without us: expired, deleted, or run by a worker that knows no rate limits.
local function check_slots(limit)
  local base = RQ .. 'rl:' .. limit
  for _, id in ipairs(try('ZRANGE', base .. ':allowed', 0, 99)) do
    local status = (fields(job_key(id), 'status') or {})[1]
    local runs = (tonumber(try('ZCOUNT', RQ .. 'executions:' .. id, '(' .. NOW, '+inf')) or 0) > 0
    if status ~= 'queued' and status ~= 'started' and not runs then call('ZREM', base .. ':allowed', id) end
  end
  fill_slots(limit)
  if call('EXISTS', base .. ':allowed', base .. ':rate_limited') == 0 then
    call('SREM', RQ .. 'rl-keys', limit)
    call('DEL', base)
  end
end
if call('SET', OWN .. 'maintained', 1, 'NX', 'PX', ARGV[1] * 1000) then
  for _, limit in ipairs(try('SRANDMEMBER', RQ .. 'rl-keys', 20)) do check_slots(limit) end
end
return {abandoned, has_more and 1 or 0}
