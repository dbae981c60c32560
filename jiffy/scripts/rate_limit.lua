-- Slots of rate limits, and the way onto a queue of a job that may need one.  Goes with lib.lua; expects no KEYS and ARGV
-- of its own.  Mirrors the scripts in rq/rate_limit.py.

-- Let as many jobs that wait for a slot onto their queues as there are free slots, up to MOST_KEYS in a script: the
-- others follow as jobs end, or with the next maintenance.
local fills_left = MOST_KEYS
local function fill_slots(limit)
  local base, passed_over = RQ .. 'rl:' .. limit, {}
  local slots = tonumber((fields(base, 'concurrency') or {})[1])
  while fills_left > 0 do
    local used, id = try('ZCARD', base .. ':allowed'), try('ZRANGE', base .. ':rate_limited', 0, 0)[1]
    if not id or type(used) ~= 'number' then return end
    local job = fields(job_key(id), 'origin', 'status', 'enqueue_at_front', 'rate_limit_concurrency')
    slots = slots or tonumber(job and job[4]) or 1  -- the limit's own hash may be gone
    if used >= slots then return end
    fills_left = fills_left - 1
    if not (job and job[1] and job[2] == 'rate_limited') then
      call('ZREM', base .. ':rate_limited', id)
    elseif push(job[1], id, job[3] == '1') then
      call('ZADD', base .. ':allowed', NOW, id)
      call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', date())
      call('ZREM', base .. ':rate_limited', id)
    elseif passed_over[id] then
      return
    else  -- its queue's key holds something else: the others go first
      call('ZADD', base .. ':rate_limited', NOW, id)
      passed_over[id] = true
    end
  end
end

-- A job has ended, or waits elsewhere: its slot is the next one's.  One that is queued or runs keeps it; one that was
-- canceled or deleted while it runs, too.
local function free_slot(limit, id)
  local status = (fields(job_key(id), 'status') or {})[1]
  local runs = (tonumber(try('ZCOUNT', RQ .. 'executions:' .. id, '(' .. NOW, '+inf')) or 0) > 0
  if runs or status == 'queued' or status == 'started' then return end
  try('ZREM', RQ .. 'rl:' .. limit .. ':rate_limited', id)
  if try('ZREM', RQ .. 'rl:' .. limit .. ':allowed', id) == 1 then fill_slots(limit) end
end

-- Put a job that waited for something onto its queue, or among those that wait for a slot of its
-- rate limit; false where the queue's key holds something else.
local function enqueue(queue, id, is_front)
  local key = job_key(id)
  local limit, slots, ttl, expires, started, was_front = unpack(fields(key, 'rate_limit_key', 'rate_limit_concurrency',
    'ttl', 'jiffy:expires', 'started_at', 'enqueue_at_front') or {})
  local base = limit and RQ .. 'rl:' .. limit
  if limit and try('ZSCORE', base .. ':allowed', id) == false
    and type(try('ZADD', base .. ':rate_limited', NOW, id)) == 'number' then
    try('SADD', RQ .. 'rl-keys', limit)
    if slots then try('HSET', base, 'concurrency', slots) end
    call('HSET', key, 'status', 'rate_limited')
    if (is_front or false) ~= (was_front == '1') then call('HSET', key, 'enqueue_at_front', is_front and 1 or 0) end
    fill_slots(limit)
  else
    if not push(queue, id, is_front) then return false end
    try('HSET', key, 'status', 'queued', 'enqueued_at', date())
  end
  if tonumber(ttl) then try('EXPIRE', key, ttl) end
  if number_of(expires) and not started then call_own('ZADD', OWN .. 'expiring', NOW + expires, id) end
  return true
end
