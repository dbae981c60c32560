-- Write what became of jobs that a worker ran, each once: an outcome that is repeated, or late, changes nothing.
-- KEYS: the worker's hash
-- ARGV: the worker's name; JSON: a list of plans, each with the fields of `FinishPlan` in finish.py
-- Returns how many of them counted
--include lib
--include of_waiting
even_if_full()
local worker, plans = ARGV[1], cjson.decode(ARGV[2])
local RQ_COUNTER = {finished = 'successful', failed = 'failed', stopped = 'failed', retried = 'failed'}
local EXCEPTIONS = {['2'] = true, ['3'] = true}  -- of rq.results.Result.Type
local NONE = {}
local done, worked_s, counts, registries, ended_in, limits = 0, 0, {}, {}, {}, {}
local attempts = {}  -- by queue and what they count as: {a job's id, their number, how long they ran}

local function add_to(registry, score, id)
  local list = registries[registry] or {}
  registries[registry] = list
  list[#list + 1], list[#list + 2] = score, id
end

-- The job has ended: what waits for it goes on.  The names of its dependents are kept as long as the job, but until they are
-- released.
local function notify(plan, kept_s)
  local dependents = job_key(plan.id) .. ':dependents'
  if call('EXISTS', dependents) == 1 then
    local has_more = of_waiting().release_dependents(plan.queue, plan.id, plan.status, '0', 100)
    if kept_s >= 0 and not has_more then call('EXPIRE', dependents, kept_s) end
  end
  local join = plan.part_result and call('HGET', job_key(plan.id), 'jiffy:join')
  if join then of_waiting().part_ended(join, plan.id, plan.status, unpack(plan.part_result)) end
end

-- Looked up for all plans at once, since each command of a script costs more than what it does.
local in_registry, are_all_there, have_dependents = {}, false, false
if #plans > 0 then
  local members, job_keys, dependents = {}, {}, {}
  for i, plan in ipairs(plans) do
    members[plan.queue] = members[plan.queue] or {}
    table.insert(members[plan.queue], member_of(plan.id, plan.execution))
    job_keys[i] = job_key(plan.id)
    dependents[i] = job_keys[i] .. ':dependents'
  end
  for queue, list in pairs(members) do
    local scores = try('ZMSCORE', RQ .. 'wip:' .. queue, unpack(list))
    for i, member in ipairs(list) do in_registry[member] = scores.err or scores[i] end
  end
  are_all_there = call('EXISTS', unpack(job_keys)) == #job_keys
  have_dependents = call('EXISTS', unpack(dependents)) > 0
end

-- Write what became of a job in its hash, its results and RQ's registries; false if that cannot be done now.
local function write(plan)
  local queue, id, again, ttl_s = plan.queue, plan.id, plan.again, plan.ttl_s or 0
  local key, results, dependencies = job_key(id), RQ .. 'results:' .. id, RQ .. 'job::' .. id .. ':dependencies'
  local written = try('HSET', key, 'status', again or plan.status, 'started_at', plan.started, 'ended_at', plan.ended,
    'last_heartbeat', plan.ended, 'worker_name', worker, unpack(plan.set or NONE))
  local is_odd = type(written) ~= 'number'  -- a key of another type: it is shown among the failed ones, with the reason
  if again == 'scheduled' and not is_odd then
    call_own('ZADD', RQ .. 'scheduled:' .. queue, math.floor(NOW + plan.delay_s), id)
  elseif again and not is_odd and not of_waiting().enqueue(queue, id, plan.at_front) then
    return false  -- its queue's key holds something else
  end
  local ttl, ends = lasting(ttl_s)
  if plan.kind then
    local entry = {'execution_id', plan.execution, 'execution_started_at', plan.started_s, 'execution_ended_at', plan.ended_s}
    if plan.value then entry[7], entry[8] = EXCEPTIONS[plan.kind] and 'exc_string' or 'return_value', plan.value end
    try('XADD', results, 'MAXLEN', '~', 10, '*', 'type', plan.kind, 'worker_name', worker, unpack(entry))
    if ttl_s < 0 then call('PERSIST', results) elseif not plan.keeps_result then call('EXPIRE', results, ttl) end
  end
  if is_odd then
    add_to(RQ .. 'failed:' .. queue, ends, id)
    return true
  elseif plan.status == 'retried' then
    return true
  end
  -- What waits for a job, and is odd, must not change what becomes of it.
  if have_dependents or plan.part_result then pcall(notify, plan, again and -1 or ttl_s) end
  local is_good = plan.status == 'finished'
  if is_good and ttl_s == 0 and not again then
    call('UNLINK', key, results, dependencies)
    are_all_there = false
  elseif is_good and ttl_s ~= 0 or plan.kind then
    add_to(RQ .. (is_good and 'finished:' or 'failed:') .. queue, ttl_s >= 0 and ends or is_good and '+inf' or ttl_s, id)
    if ttl_s < 0 and not again then
      call('PERSIST', key)
    elseif not again then
      call('EXPIRE', key, ttl)
      if plan.has_parents then call('EXPIRE', dependencies, ttl) end
    end
  end
  return true
end

local function finish(plan)
  local queue, id, status = plan.queue, plan.id, plan.status
  local held = {member_of(id, plan.execution), queue, id, plan.execution}
  -- If not, it has ended or is another worker's by now: nothing of this counts.
  local is_ours = status ~= 'gone' and (in_registry[held[1]] or is_lost(worker, id, held[1]))
  in_registry[held[1]] = nil  -- the same plan may stand here twice
  local ended, is_done = ended_in[queue] or {}, true
  if is_ours and status == 'parked' and call_own('HEXISTS', OWN .. 'paused', 'func:' .. plan.func) == 1 then
    of_waiting().park(id, plan.func, #ended)
  elseif is_ours and (status == 'parked' or status == 'requeued') then
    is_done = requeue(worker, held, status == 'requeued')
  elseif is_ours and (are_all_there or call('EXISTS', job_key(id)) == 1) then
    is_done = write(plan)
  end
  if not is_done then return end
  ended_in[queue], ended[#ended + 1] = ended, held
  if plan.rate_limit then limits[id] = plan.rate_limit end
  if not is_ours then return end
  local ran_s, groups = plan.ended_s - plan.started_s, attempts[queue] or {}
  attempts[queue] = groups
  if plan.counted_as then
    local same = groups[plan.counted_as] or {id, 0, 0}
    groups[plan.counted_as] = same
    same[2], same[3] = same[2] + 1, same[3] + ran_s
  end
  for _, kind in ipairs(plan.todo or NONE) do
    remember(queue, kind .. ' ' .. id)
    call_own('HDEL', OWN .. 'todo:tries', kind .. ' ' .. id)  -- of an end before, which may still go on
  end
  local count = RQ_COUNTER[status]
  if count then counts[count], worked_s = (counts[count] or 0) + 1, worked_s + ran_s end
  done = done + 1
end

for _, plan in ipairs(plans) do finish(plan) end
for registry, list in pairs(registries) do call_own('ZADD', registry, unpack(list)) end
for queue, ended in pairs(ended_in) do end_executions(worker, queue, ended) end
for id, limit in pairs(limits) do of_waiting().free_slot(limit, id) end
for queue, groups in pairs(attempts) do
  for group, same in pairs(groups) do count_attempts(queue, same[1], group, same[2], same[3]) end
end
if next(ended_in) and call('EXISTS', KEYS[1]) == 1 then
  if call('EXISTS', OWN .. 'held:' .. worker) == 0 then try('HSET', KEYS[1], 'state', 'idle') end
  for how, count in pairs(counts) do try('HINCRBY', KEYS[1], how .. '_job_count', count) end
  if worked_s > 0 then try('HINCRBYFLOAT', KEYS[1], 'total_working_time', worked_s) end
end
return done
