-- Tidy up after RQ and its workers, a little at a time.  Mirrors what BaseWorker.run_maintenance_tasks does for queues,
-- by Redis' own clock.
-- KEYS: the queues
-- ARGV: in how many s it is to be done again at the earliest, how long a job may be between queue and worker in s
-- Returns what RQ's workers have left in the started registries, for the caller to finish: {queue, id, execution, worker,
--         what `details_of` returns, or nil for a job that is elsewhere by now}; and whether there was more than one call
--         does (0 or 1)
--include lib
--include waiting
even_if_full()
local stale, has_more = {}, false

-- Whether it was not done for so long; a mark without an end is not ours.
local function is_due(mark)
  local left_ms = call('PTTL', mark)
  if left_ms >= 0 and left_ms <= 60000 then return false end
  return call('SET', mark, 1, 'PX', ARGV[1] * 1000)
end

-- Ids that have been kept long enough; '-1' means without end.
local function forget_old(registry)
  local old = try('ZRANGEBYSCORE', registry, 0, NOW, 'LIMIT', 0, MOST_KEYS)
  if #old > 0 then call('ZREM', registry, unpack(old)) end
  has_more = has_more or #old == MOST_KEYS
end

-- What waits for jobs that have all ended is released again: that was lost.
looks_left = 0  -- jobs with over 100 parents are not looked at
local function release_lost(queue, id)
  local status, may_fail = unpack(fields(job_key(id), 'status', 'allow_dependency_failures') or {})
  local is_ready, parents = false, nil
  if status == 'deferred' and all_looks_left > 9 * MOST_KEYS then is_ready, parents = is_met(id, may_fail == '1') end
  for _, parent in ipairs(is_ready and parents or {}) do
    local ended = (fields(job_key(parent), 'status') or {})[1]
    if ended then
      try('SADD', job_key(parent) .. ':dependents', id)
      return remember(queue, 'release ' .. ended .. ' 0 ' .. parent)
    end
  end
end

-- Ids of jobs that waited for others until their `ttl` was over; the others are looked at where that was lost.
local function check_deferred(queue)
  local registry = RQ .. 'deferred:' .. queue
  for _, id in ipairs(try('ZRANDMEMBER', registry, 100)) do
    if call('EXISTS', job_key(id)) == 0 then
      call('ZREM', registry, id)
    elseif call('EXISTS', OWN .. 'join:' .. id) == 1 then
      call_own('ZADD', OWN .. 'joins', 'NX', NOW, id)
    else
      release_lost(queue, id)
    end
  end
end

-- Whether a list names a job; a long one is not looked through.
local function is_on(list, id)
  return try('LPOS', list, id, 'MAXLEN', 10 * MOST_KEYS) or try('LLEN', list) > 10 * MOST_KEYS
end

-- Whether another key names the job: it is gone, or its status shows where it is.  A worker of RQ's registers an
-- execution first, and marks the job as started second.
local NAMED = {finished = 1, failed = 1, stopped = 1, canceled = 1, scheduled = 1, deferred = 1, ready_to_enqueue = 1,
  rate_limited = 1}
local function is_elsewhere(queue, id, job)
  if not job then return false end
  local key = RQ .. 'queue:' .. queue
  if job[1] == 'queued' then return is_on(key, id) or is_on(key .. ':intermediate', id) end
  return NAMED[job[1]] or (not job[1] and call('EXISTS', job_key(id)) == 0)
end

-- What one of ours holds is not abandoned: recover.lua sees to it, and after an outage of Redis all are this old.
local function find_stale(queue)
  for _, member in ipairs(try('ZRANGEBYSCORE', RQ .. 'wip:' .. queue, '-inf', NOW, 'LIMIT', 0, 100)) do
    local id, execution = string.match(member, '^(.*):([^:]+)$')
    if not id then id, execution = member, '' end
    local job = fields(job_key(id), 'status', 'worker_name')
    local worker = job and job[2] or ''
    if try('HEXISTS', OWN .. 'held:' .. worker, member) == 1 then
      call_own('ZADD', OWN .. 'leases', 'LT', NOW, worker)  -- or else it would not look where a lease is gone, or far ahead
    else
      local is_there = not is_elsewhere(queue, id, job)
      stale[#stale + 1] = {queue, id, execution, worker, is_there and details_of(job_key(id)) or false}
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

-- A worker of RQ's moves an id to this list before it marks the job as started.
local function return_intermediate(queue)
  local list, seen = RQ .. 'queue:' .. queue .. ':intermediate', OWN .. 'seen:' .. queue
  local since, flat = {}, some_of(seen)
  for i = 1, #flat, 2 do since[flat[i]] = math.min(number_of(flat[i + 1]) or NOW, NOW) end
  call('DEL', seen)
  for _, id in ipairs(try('LRANGE', list, 0, 99)) do
    local job = fields(job_key(id), 'status')
    local status = job and job[1]
    if status == 'started' or (status ~= 'queued' and is_elsewhere(queue, id, job)) then
      call('LREM', list, 1, id)
    elseif since[id] and NOW - since[id] > tonumber(ARGV[2]) and push(queue, id, true) then
      call('LREM', list, 1, id)
    else
      call('HSET', seen, id, since[id] or NOW)
    end
  end
end

local function forget_workers(queue)
  local registry = RQ .. 'workers:' .. queue
  for _, key in ipairs(try('SRANDMEMBER', registry, 100)) do
    if try('EXISTS', key) == 0 then  -- what is no worker's, this user of Redis may not ask for
      call('SREM', registry, key)
      try('SREM', RQ .. 'workers', key)
    end
  end
end

for _, key in ipairs(KEYS) do
  local queue = queue_of(key)
  if is_due(OWN .. 'maintained:' .. queue) then
    for _, name in ipairs({'finished:', 'failed:'}) do forget_old(RQ .. name .. queue) end
    check_deferred(queue)
    find_stale(queue)
    enqueue_ready(queue)
    return_intermediate(queue)
    forget_workers(queue)
    if has_more then call('DEL', OWN .. 'maintained:' .. queue) end
  end
end

-- Slots of jobs that have ended without us: expired, deleted, or run by a worker that knows no rate limits.
local function check_slots(limit)
  local base = RQ .. 'rl:' .. limit
  local ids = try('ZRANDMEMBER', base .. ':allowed', 100)
  for _, id in ipairs(ids) do free_slot(limit, id) end
  fill_slots(limit)
  if call('EXISTS', base .. ':allowed', base .. ':rate_limited') == 0 then
    call('SREM', RQ .. 'rl-keys', limit)
    call('DEL', base)
  end
  return #ids + 1
end

-- A group of RQ's forgets jobs that are gone, and is forgotten with the last.
local function tidy_group(name)
  local group = RQ .. 'group:' .. name
  for _, id in ipairs(try('SRANDMEMBER', group, 20)) do
    if call('EXISTS', job_key(id)) == 0 then call('SREM', group, id) end
  end
  if call('EXISTS', group) == 0 then call('SREM', RQ .. 'groups', name) end
end
if is_due(OWN .. 'maintained') then
  -- RQ's workers, which look at all at once, need not; while suspended they do not anyway.
  if call('EXISTS', RQ .. 'suspended') == 0 then try('SET', RQ .. 'clean_groups', 1, 'EX', 600, 'NX') end
  for _, name in ipairs(try('SRANDMEMBER', RQ .. 'groups', 50)) do tidy_group(name) end
  local left = MOST_KEYS
  for _, limit in ipairs(try('SRANDMEMBER', RQ .. 'rl-keys', MOST_KEYS)) do
    if left > 0 then left = left - check_slots(limit) end
  end
end
return {stale, has_more and 1 or 0}
