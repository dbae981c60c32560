-- Write what became of jobs that a worker ran, each once: an outcome that is repeated, or late, changes nothing.
-- KEYS: the worker's hash
-- ARGV: the worker's name; the plans as JSON, each a list: see `row` in finish.py
-- Returns how many of them counted
--include lib
--include history
-- Included late: few jobs need it.
local rare
local function need()
  if rare then return rare end
--include release
--include pauses
  rare = {park = park, enqueue = enqueue, free_slot = free_slot, release_dependents = release_dependents, part_ended = part_ended}
  return rare
end
local worker, outcomes = ARGV[1], cjson.decode(ARGV[2])
local RESULT_FIELDS = {'return_value', 'exc_string', 'exc_string', 'return_value', 'return_value'}  -- rq.results.Result.Type
local KINDS = {'1', '2', '3', '4', '5'}
local NONE = {}
local COUNTED_AS = {finished = 'successful', failed = 'failed', stopped = 'failed', retried = 'failed'}
local counts, worked_s, registries = {}, 0, {}
local done, settled, ended_in, limits = 0, {}, {}, {}
local attempts = {}  -- by queue and group: {a job's id, their number, how long they ran}

-- For each ttl_s: itself and the moment when it ends, as strings, since a number costs Redis more each time than all else
-- that is done with it.
local texts, moments = {}, {}
local function look_up_ttl(ttl_s)
  if not texts[ttl_s] then texts[ttl_s], moments[ttl_s] = tostring(ttl_s), in_s(ttl_s) end
end

local function add_to(registry, score, id)
  local list = registries[registry] or {}
  registries[registry] = list
  list[#list + 1], list[#list + 2] = score, id
end

local function add_result(id, execution, kind, value, started_s, ended_s, ttl_s, is_kept)
  local key = RQ .. 'results:' .. id
  local entry = {'execution_id', execution, 'execution_started_at', started_s, 'execution_ended_at', ended_s}
  if value then entry[7], entry[8] = RESULT_FIELDS[kind], value end
  try('XADD', key, 'MAXLEN', '~', 10, '*', 'type', KINDS[kind], 'worker_name', worker, unpack(entry))
  if ttl_s < 0 then call('PERSIST', key) elseif not is_kept then call('EXPIRE', key, texts[ttl_s]) end
end

-- The job has ended: what waits for it goes on.  The names of its dependents are kept as long as the job, but not less
-- long than it takes to release them.
local function notify(queue, id, status, ttl_s, part)
  local key = job_key(id)
  if call('EXISTS', key .. ':dependents') == 1 then
    local cursor = need().release_dependents(id, status, '0', 100)
    if cursor ~= '0' then remember(queue, 'release ' .. status .. ' ' .. cursor .. ' ' .. id) end
    if ttl_s >= 0 then call('EXPIRE', key .. ':dependents', math.max(ttl_s, cursor ~= '0' and 3600 or 0)) end
  end
  local waiting = part and call('HGET', key, 'jiffy:join')
  if waiting then need().part_ended(waiting, id, status, part[1], part[2]) end
end

-- It is kept in a registry for a while.
local function keep(queue, id, status, ttl_s, more)
  local key = job_key(id)
  local registry, for_ever = RQ .. 'finished:' .. queue, '+inf'
  if status ~= 'finished' then registry, for_ever = RQ .. 'failed:' .. queue, ttl_s end
  add_to(registry, ttl_s < 0 and for_ever or moments[ttl_s], id)
  if more.again then return end
  if ttl_s < 0 then return call('PERSIST', key) end
  call('EXPIRE', key, texts[ttl_s])
  if more.has_parents then call('EXPIRE', RQ .. 'job::' .. id .. ':dependencies', ttl_s) end
end

-- It runs again; false if that cannot be: its queue's key holds something else.
local function run_again(queue, id, more)
  if more.again == 'queued' then return need().enqueue(queue, id, more.front) end
  return type(try('ZADD', RQ .. 'scheduled:' .. queue, math.floor(NOW + more.delay_s), id)) == 'number'
end

-- Looked up for all outcomes at once, since each command of a script costs more than what it does.
local own, are_all_there, have_dependents = {}, false, false
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
    for i, member in ipairs(list) do own[member] = scores.err or scores[i] end
  end
  are_all_there = call('EXISTS', unpack(job_keys)) == #job_keys
  have_dependents = call('EXISTS', unpack(dependents)) > 0
end

-- Its parameters are a plan's fields, in order.
local function finish(queue, id, execution, status, started, ended, started_s, ended_s, ttl_s, kind, group, value, more)
  local key, member = job_key(id), member_of(id, execution)
  look_up_ttl(ttl_s)
  -- If not, it has ended or is another worker's by now: nothing of this counts.
  local is_own = own[member] and status ~= 'over'
  own[member] = nil  -- the same outcome may stand here twice
  if is_own and status == 'requeued' then
    if not requeue(worker, {member, queue, id, execution}) then return end
  elseif is_own and status == 'parked' then
    if call('HEXISTS', OWN .. 'paused', 'func:' .. more.func) == 1 then
      need().park(id, more.func, #settled)
    elseif not requeue(worker, {member, queue, id, execution}) then
      return
    end
  elseif is_own and (are_all_there or call('EXISTS', key) == 1) then
    local written = try('HSET', key, 'status', more.again or status, 'started_at', started, 'ended_at', ended,
      'last_heartbeat', ended, 'worker_name', worker, unpack(more.set or NONE))
    local is_odd = type(written) ~= 'number'  -- a key of another type: it is shown among the failed ones, with the reason
    if more.again and not is_odd and not run_again(queue, id, more) then return end
    if kind > 0 then add_result(id, execution, kind, value, started_s, ended_s, ttl_s, more.keep_result) end
    if is_odd then
      add_to(RQ .. 'failed:' .. queue, NOW + ttl_s, id)
    elseif status ~= 'retried' then
      -- What waits for a job, and is odd, must not change what becomes of it.
      if have_dependents or more.part then pcall(notify, queue, id, status, more.again and -1 or ttl_s, more.part) end
      if status == 'finished' and ttl_s == 0 and not more.again then
        call('DEL', key, RQ .. 'results:' .. id, RQ .. 'job::' .. id .. ':dependencies')
        are_all_there = false
      elseif status == 'finished' and ttl_s ~= 0 or kind > 0 then
        keep(queue, id, status, ttl_s, more)
      end
    end
  end
  settled[#settled + 1] = member
  ended_in[queue] = ended_in[queue] or {}
  table.insert(ended_in[queue], {member, queue, id, execution})
  if more.limit then limits[id] = more.limit end
  if not is_own then return end
  local ran_s = ended_s - started_s
  local groups = attempts[queue] or {}
  attempts[queue] = groups
  local same = groups[group] or {id, 0, 0}
  groups[group] = same
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
for queue, ended in pairs(ended_in) do end_executions(queue, ended) end
for id, limit in pairs(limits) do need().free_slot(limit, id) end
for queue, groups in pairs(attempts) do
  groups[''] = nil
  for group, same in pairs(groups) do count_attempts(queue, same[1], group, same[2], same[3]) end
end
if #settled > 0 then forget_held(worker, settled) end
if #settled > 0 and call('EXISTS', KEYS[1]) == 1 then
  if call('EXISTS', OWN .. 'held:' .. worker) == 0 then try('HSET', KEYS[1], 'state', 'idle') end
  for how, count in pairs(counts) do try('HINCRBY', KEYS[1], how .. '_job_count', count) end
  if worked_s > 0 then try('HINCRBYFLOAT', KEYS[1], 'total_working_time', worked_s) end
end
return done
