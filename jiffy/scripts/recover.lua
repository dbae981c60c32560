-- Put what a dead worker held back to the front of its queues, in order.
-- KEYS: leases
-- ARGV: the worker's name; is it gone for good (1 or 0);
--       the execution that it ran ('': none, or of a worker that is gone, unknown; '?': unknown, and one of them is to blame);
--       what becomes of that one (count: it may have killed the worker; requeue: it has not; fail, stop: the caller writes it);
--       the cause; after how many deaths it is quarantined; how executions of the process that died begin ('': of any)
-- Returns the ids that are back on their queues;
--         what the caller is to finish, each as {queue, id, execution, causes, what `details_of` returns}
--include lib
--include of_waiting
even_if_full()
local worker, is_gone, culprit, handling, cause, most = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local back, to_finish = {}, {}
-- It has come back since it was found, or there was none.
local lease = is_gone and call_own('ZSCORE', KEYS[1], worker)
if is_gone and (not lease or tonumber(lease) > tonumber(NOW)) then return {back, to_finish} end
hold_lost(worker, ARGV[7])
local all_held, is_all = held_by(worker)
local held, kept = {}, is_all and 0 or 1
for _, one in ipairs(all_held) do
  if string.sub(one[4], 1, #ARGV[7]) == ARGV[7] then held[#held + 1] = one else kept = kept + 1 end
end
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
  local _, queue, id, execution = unpack(held[i])
  local key = job_key(id)
  local is_there = still_runs(worker, held[i])
  local is_culprit = is_there and execution == culprit
  local must_finish, causes = is_culprit and (handling == 'fail' or handling == 'stop'), cause
  if is_culprit and handling == 'count' then must_finish, causes = count_crash(key, execution) end
  if is_culprit and handling == 'requeue' then must_finish = (fields(key, 'jiffy:rescue') or {})[1] == 'no' end
  if must_finish then
    to_finish[#to_finish + 1] = {queue, id, execution, causes, details_of(key)}
  else
    if is_there and is_unknown and #held > 1 then try('HSET', key, 'jiffy:alone', 1) end
    if not requeue(worker, held[i], is_unknown or is_culprit) then
      kept = kept + 1
    elseif is_there then
      back[#back + 1] = id
      if execution == culprit then count_attempts(queue, id, 'interrupted -1 -1 ?', 1, 0) end
    end
  end
end

local key = RQ .. 'worker:' .. worker
if #to_finish + kept == 0 and is_gone then
  call_own('ZREM', KEYS[1], worker)
  name_worker('SREM', key)
  call('DEL', key, key .. ':executions')
elseif #to_finish + kept == 0 and call('EXISTS', key) == 1 then
  try('HSET', key, 'state', 'idle')
end
return {back, to_finish}
