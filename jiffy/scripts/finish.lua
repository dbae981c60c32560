-- Write what became of jobs that a worker ran, each once: an outcome that is repeated, or late, changes nothing.
-- KEYS: the worker's hash
-- ARGV: the worker's name; the plans as JSON, each a list: see `row` in finish.py
-- Returns how many of them counted
--include lib
-- Included late: few jobs need it.
local rare
local function need()
  if rare then return rare end
--include release
  rare = {park = park, enqueue = enqueue, free_slot = free_slot, release_dependents = release_dependents, part_ended = part_ended}
  return rare
end
local worker, outcomes = ARGV[1], cjson.decode(ARGV[2])
local COUNTED_AS = {finished = 'successful', failed = 'failed', stopped = 'failed', retried = 'failed'}
local EXCEPTIONS = {['2'] = true, ['3'] = true}  -- of rq.results.Result.Type
local NONE = {}
local done, worked_s, counts, registries, ended_in, limits = 0, 0, {}, {}, {}, {}
local attempts = {}  -- by queue and group: {a job's id, their number, how long they ran}

local function add_to(registry, score, id)
  local list = registries[registry] or {}
  registries[registry] = list
  list[#list + 1], list[#list + 2] = score, id
end

-- The job has ended: what waits for it goes on.  The names of its dependents are kept as long as the job, but not less
-- long than it takes to release them.
local function notify(queue, id, status, ttl_s, part)
  local dependents = job_key(id) .. ':dependents'
  if call('EXISTS', dependents) == 1 then
    local cursor = need().release_dependents(id, status, '0', 100)
    if cursor then remember(queue, 'release ' .. status .. ' ' .. cursor .. ' ' .. id) end
    if ttl_s >= 0 then call('EXPIRE', dependents, math.max(ttl_s, cursor and 3600 or 0)) end
  end
  local waiting = part and call('HGET', job_key(id), 'jiffy:join')
  if waiting then need().part_ended(waiting, id, status, part[1], part[2]) end
end

-- It runs again; false if that cannot be: its queue's key holds something else.
local function run_again(queue, id, more)
  if more.again == 'queued' then return need().enqueue(queue, id, more.front) end
  return type(try('ZADD', RQ .. 'scheduled:' .. queue, math.floor(NOW + more.delay_s), id)) == 'number'
end

-- Looked up for all outcomes at once, since each command of a script costs more than what it does.
local ours, are_all_there, have_dependents = {}, false, false
local function look_up()
  local members, job_keys, dependents = {}, {}, {}
  for i, outcome in ipairs(outcomes) do
    local queue, id = outcome[1], outcome[2]
    members[queue] = members[queue] or {}
    table.insert(members[queue], member_of(id, outcome[3]))
    job_keys[i], dependents[i] = job_key(id), job_key(id) .. ':dependents'
  end
  for queue, list in pairs(members) do
    local scores = try('ZMSCORE', RQ .. 'wip:' .. queue, unpack(list))
    for i, member in ipairs(list) do ours[member] = scores.err or scores[i] end
  end
  are_all_there = call('EXISTS', unpack(job_keys)) == #job_keys
  have_dependents = call('EXISTS', unpack(dependents)) > 0
end

-- Write what became of a job in its hash, its results and RQ's registries; false if that cannot be done now.
local function write(queue, id, execution, status, started, ended, started_s, ended_s, ttl_s, kind, value, more)
  local key, results, dependencies = job_key(id), RQ .. 'results:' .. id, RQ .. 'job::' .. id .. ':dependencies'
  local written = try('HSET', key, 'status', more.again or status, 'started_at', started, 'ended_at', ended,
    'last_heartbeat', ended, 'worker_name', worker, unpack(more.set or NONE))
  local is_odd = type(written) ~= 'number'  -- a key of another type: it is shown among the failed ones, with the reason
  if more.again and not is_odd and not run_again(queue, id, more) then return false end
  local ttl, ends = lasting(ttl_s)
  if kind ~= '0' then
    local entry = {'execution_id', execution, 'execution_started_at', started_s, 'execution_ended_at', ended_s}
    if value then entry[7], entry[8] = EXCEPTIONS[kind] and 'exc_string' or 'return_value', value end
    try('XADD', results, 'MAXLEN', '~', 10, '*', 'type', kind, 'worker_name', worker, unpack(entry))
    if ttl_s < 0 then call('PERSIST', results) elseif not more.keep_result then call('EXPIRE', results, ttl) end
  end
  if is_odd then
    add_to(RQ .. 'failed:' .. queue, ends, id)
    return true
  elseif status == 'retried' then
    return true
  end
  -- What waits for a job, and is odd, must not change what becomes of it.
  if have_dependents or more.part then pcall(notify, queue, id, status, more.again and -1 or ttl_s, more.part) end
  local is_good = status == 'finished'
  if is_good and ttl_s == 0 and not more.again then
    call('UNLINK', key, results, dependencies)
    are_all_there = false
  elseif is_good and ttl_s ~= 0 or kind ~= '0' then
    add_to(RQ .. (is_good and 'finished:' or 'failed:') .. queue, ttl_s >= 0 and ends or is_good and '+inf' or ttl_s, id)
    if ttl_s < 0 and not more.again then
      call('PERSIST', key)
    elseif not more.again then
      call('EXPIRE', key, ttl)
      if more.has_parents then call('EXPIRE', dependencies, ttl) end
    end
  end
  return true
end

-- Its parameters are a plan's fields, in order.
local function finish(queue, id, execution, status, started, ended, started_s, ended_s, ttl_s, kind, group, value, more)
  local held = {member_of(id, execution), queue, id, execution}
  -- If not, it has ended or is another worker's by now: nothing of this counts.
  local is_own = ours[held[1]] and status ~= 'over'
  ours[held[1]] = nil  -- the same outcome may stand here twice
  local others = ended_in[queue] or {}
  local may_go_on = true
  if is_own and status == 'parked' and call('HEXISTS', OWN .. 'paused', 'func:' .. more.func) == 1 then
    need().park(id, more.func, #others)
  elseif is_own and (status == 'parked' or status == 'requeued') then
    may_go_on = requeue(worker, held)
  elseif is_own and (are_all_there or call('EXISTS', job_key(id)) == 1) then
    may_go_on = write(queue, id, execution, status, started, ended, started_s, ended_s, ttl_s, kind, value, more)
  end
  if not may_go_on then return end
  ended_in[queue], others[#others + 1] = others, held
  if more.limit then limits[id] = more.limit end
  if not is_own then return end
  local ran_s, groups = ended_s - started_s, attempts[queue] or {}
  local same = groups[group] or {id, 0, 0}
  attempts[queue], groups[group] = groups, same
  same[2], same[3] = same[2] + 1, same[3] + ran_s
  for _, what in ipairs(more.todo or NONE) do remember(queue, what .. ' ' .. id) end
  local count = COUNTED_AS[status]
  if count then counts[count], worked_s = (counts[count] or 0) + 1, worked_s + ran_s end
  done = done + 1
end

even_if_full()
if #outcomes > 0 then look_up() end
for _, outcome in ipairs(outcomes) do
  outcome[13] = outcome[13] or NONE
  finish(unpack(outcome, 1, 13))
end
for registry, list in pairs(registries) do try('ZADD', registry, unpack(list)) end
for queue, ended in pairs(ended_in) do end_executions(worker, queue, ended) end
for id, limit in pairs(limits) do need().free_slot(limit, id) end
for queue, groups in pairs(attempts) do
  groups[''] = nil
  for group, same in pairs(groups) do count_attempts(queue, same[1], group, same[2], same[3]) end
end
if next(ended_in) and call('EXISTS', KEYS[1]) == 1 then
  if call('EXISTS', OWN .. 'held:' .. worker) == 0 then try('HSET', KEYS[1], 'state', 'idle') end
  for how, count in pairs(counts) do try('HINCRBY', KEYS[1], how .. '_job_count', count) end
  if worked_s > 0 then try('HINCRBYFLOAT', KEYS[1], 'total_working_time', worked_s) end
end
return done
