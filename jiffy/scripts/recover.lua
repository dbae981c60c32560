-- Put what a dead worker held back to the front of its queues, in order; or find the workers that are dead.
-- KEYS: leases, when a supervisor last looked for the dead
-- ARGV: "recover"; the worker's name; is it gone for good (1 or 0);
--       the execution that it ran ('': unknown; '?': unknown, and one of them is to blame);
--       what becomes of that one (count: it may have killed the worker; requeue: it has not; fail, stop: the caller writes it);
--       the cause; after how many deaths it is quarantined
-- Returns the ids that are back on their queues;
--         what the caller is to fail, each as {queue, id, execution, causes, what `details_of` returns}
-- ARGV: or "find"; the shortest and longest time between two looks, and how long to wait after an outage, in s
-- Returns the names of the dead; none if a supervisor has just looked
--include lib
even_if_full()

-- Where no supervisor has looked for a while, Redis was away and so are all leases: those who live get the time to renew them,
-- or the first to come back would declare all others dead.
local function find_dead(shortest_s, longest_s, wait_s)
  local last, quiet_until = unpack(call_own('HMGET', KEYS[2], 'at', 'quiet_until'))
  last = number_of(last) or 0
  local since_s = NOW - last
  if since_s >= 0 and since_s < shortest_s then return {} end
  quiet_until = number_of(quiet_until) or 0
  if quiet_until > NOW + wait_s then quiet_until = 0 end
  if since_s > longest_s or since_s < 0 then quiet_until = NOW + wait_s end
  call('HSET', KEYS[2], 'at', NOW, 'quiet_until', quiet_until)
  -- Redis' clock was set back: leases from before end as much earlier.
  if since_s < 0 and since_s > -1e10 then
    local ahead = call_own('ZRANGEBYSCORE', KEYS[1], last, '+inf', 'LIMIT', 0, MOST_KEYS, 'WITHSCORES')
    for i = 1, #ahead, 2 do call('ZADD', KEYS[1], ahead[i + 1] + since_s, ahead[i]) end
  end
  if tonumber(NOW) < quiet_until then return {} end
  local dead = call_own('ZRANGEBYSCORE', KEYS[1], '-inf', NOW, 'LIMIT', 0, 100)
  -- The next look begins with others: those that cannot be recovered now keep none waiting.
  for _, worker in ipairs(dead) do call('ZADD', KEYS[1], NOW, worker) end
  return dead
end
if ARGV[1] == 'find' then return find_dead(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])) end

local worker, is_gone, culprit, handling, cause, most = ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local back, to_fail = {}, {}
local held, is_all = held_by(worker)
local kept = is_all and 0 or 1
-- Which one ran?  If that is unknown, a job that was alone is to blame.  Of several none is, but each is claimed alone from
-- now on.
local is_unknown = culprit == '?' or culprit == '' and is_gone
-- A child that noted an outcome that cannot be read may have claimed the next batch in the same round trip: then the first
-- of what it holds is from the batch before, and did it.
local function batch_of(i) return held[i] and string.sub(held[i][4], 1, BATCH) end
if is_unknown and (#held == 1 or culprit == '?' and batch_of(1) ~= batch_of(2)) then culprit = held[1][4] end

-- Count a crash.  Returns whether there have been too many, or the job must not begin a second time; and all causes.
local function count_crash(key, execution)
  local job = fields(key, 'jiffy:crashes', 'jiffy:causes', 'jiffy:rescue', 'jiffy:alone')
  if not job then return false end
  local crashes, causes = math.max(number_of(job[1]) or 0, 0), job[2] or ''
  if job[4] ~= execution then  -- not counted yet: this may be repeated, as long as its queue holds something else
    crashes = crashes + 1
    causes = string.sub(causes, 1, 2000) .. (job[2] and '\n' or '') .. cause
    call('HSET', key, 'jiffy:crashes', crashes, 'jiffy:causes', causes, 'jiffy:alone', execution)
  end
  return crashes >= most or job[3] == 'no', causes
end

for i = #held, 1, -1 do
  local member, queue, id, execution = unpack(held[i])
  local key = job_key(id)
  local is_there = call('EXISTS', key) == 1 and try('ZSCORE', RQ .. 'wip:' .. queue, member)
  local is_culprit = is_there and execution == culprit
  local is_left, causes = is_culprit and (handling == 'fail' or handling == 'stop'), cause
  if is_culprit and handling == 'count' then is_left, causes = count_crash(key, execution) end
  if is_culprit and handling == 'requeue' then is_left = (fields(key, 'jiffy:rescue') or {})[1] == 'no' end
  if is_left then
    to_fail[#to_fail + 1] = {queue, id, execution, causes, details_of(key)}
  else
    if is_there and is_unknown and #held > 1 then try('HSET', key, 'jiffy:alone', 1) end
    if not requeue(worker, held[i]) then
      kept = kept + 1
    elseif is_there then
      back[#back + 1] = id
      if execution == culprit then count_attempts(queue, id, 'interrupted -1 -1 ?', 1, 0) end
    end
  end
end

local key = RQ .. 'worker:' .. worker
if #to_fail + kept == 0 and is_gone then
  call_own('ZREM', KEYS[1], worker)
  for queue in string.gmatch(string.sub((fields(key, 'queues') or {})[1] or '', 1, 10000), '[^,]+') do
    try('SREM', RQ .. 'workers:' .. queue, key)
  end
  try('SREM', RQ .. 'workers', key)
  call('DEL', key, key .. ':executions')
elseif #to_fail + kept == 0 and call('EXISTS', key) == 1 then
  try('HSET', key, 'state', 'idle')
end
return {back, to_fail}
