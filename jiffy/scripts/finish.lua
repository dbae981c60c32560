-- Write what became of jobs that a worker ran, each once: an outcome that is repeated, or late, changes nothing.
-- KEYS: the worker's hash
-- ARGV: the worker's name; the outcomes as JSON, a list each: queue, id, execution, status (finished, failed, stopped;
--       retried: it runs again; returned: back to the front, as if it had never begun; over: it had ended before, and
--       only its execution was left), started and ended as text, the same in s, for how many s it is kept (-1: for ever), its result's type (0: none), the result as RQ packs it or
--       false, and what few jobs have: {set: fields and values, count: successful, failed or nothing, again: queued or
--       scheduled, delay_s, front, keep_result: for ever, limit: its rate limit, has_parents, part: {result, error} as JSON where a workflow
--       waits for it, todo: what workers are to do next for it}
-- Returns how many of them counted
--include lib
local worker, outcomes = ARGV[1], cjson.decode(ARGV[2])
local RESULT_FIELDS = {'return_value', 'exc_string', 'exc_string', 'return_value', 'return_value'}  -- rq.results.Result.Type
local NONE = {}
local counts, worked_s, settled, registries = {successful = 0, failed = 0}, 0, {}, {}

local function add_to(registry, score, id)
  local list = registries[registry] or {}
  registries[registry] = list
  list[#list + 1], list[#list + 2] = score, id
end

local function add_result(id, execution, kind, value, started_s, ended_s, ttl_s, is_kept)
  local key = RQ .. 'results:' .. id
  local entry = {'execution_id', execution, 'execution_started_at', started_s, 'execution_ended_at', ended_s}
  if value then entry[7], entry[8] = RESULT_FIELDS[kind], value end
  try('XADD', key, 'MAXLEN', '~', 10, '*', 'type', kind, 'worker_name', worker, unpack(entry))
  if ttl_s < 0 then call('PERSIST', key) elseif not is_kept then call('EXPIRE', key, ttl_s) end
end

-- The job has ended: what waits for it goes on.  The names of its dependents are kept as long as the job, but not less
-- long than it takes to release them.
local function notify(queue, id, status, ttl_s, part)
  local key = job_key(id)
  if call('EXISTS', key .. ':dependents') == 1 then
    local cursor = release_dependents(id, status, '0', 100)
    if cursor ~= '0' then remember(queue, 'release ' .. status .. ' ' .. cursor .. ' ' .. id) end
    if ttl_s >= 0 then call('EXPIRE', key .. ':dependents', math.max(ttl_s, cursor ~= '0' and 3600 or 0)) end
  end
  local waiting = part and call('HGET', key, 'jiffy:join')
  if waiting then part_ended(waiting, id, status, part[1], part[2]) end
end

-- It is kept in a registry for a while.
local function keep(queue, id, status, ttl_s, more)
  local key = job_key(id)
  local registry, for_ever = RQ .. 'finished:' .. queue, '+inf'
  if status ~= 'finished' then registry, for_ever = RQ .. 'failed:' .. queue, ttl_s end
  add_to(registry, ttl_s < 0 and for_ever or NOW + ttl_s, id)
  if more.again then return end
  if ttl_s < 0 then return call('PERSIST', key) end
  call('EXPIRE', key, ttl_s)
  if more.has_parents then call('EXPIRE', RQ .. 'job::' .. id .. ':dependencies', ttl_s) end
end

-- It runs again; false if that cannot be: its queue's key holds something else.
local function run_again(queue, id, more)
  if more.again == 'queued' then return enqueue(queue, id, more.front) end
  return type(try('ZADD', RQ .. 'scheduled:' .. queue, math.floor(NOW + more.delay_s), id)) == 'number'
end

local function finish(queue, id, execution, status, started, ended, started_s, ended_s, ttl_s, kind, value, more)
  local key, member = job_key(id), id .. ':' .. execution
  local runs_again = status == 'returned' or more.again
  -- What runs again leaves this registry once it is on its queue; for all else, leaving it is what decides.
  local is_own = runs_again and try('ZSCORE', RQ .. 'wip:' .. queue, member)
    or not runs_again and end_execution(queue, id, execution)
  if not is_own or status == 'over' then
    settled[#settled + 1] = member  -- by now it is another worker's, or nobody's: nothing of this counts
    end_execution(queue, id, execution)
    if more.limit then free_slot(more.limit, id) end
    return false
  end
  local job = fields(key, 'status')
  local is_there = job and (job[1] or call('EXISTS', key) == 1)
  if status == 'returned' then
    if not give_back(worker, {member, queue, id, execution}) then return end
  elseif is_there then
    call('HSET', key, 'status', more.again or status, 'started_at', started, 'ended_at', ended, 'last_heartbeat', ended,
      'worker_name', worker, unpack(more.set or NONE))
    if more.again and not run_again(queue, id, more) then return end
    if kind > 0 then add_result(id, execution, kind, value, started_s, ended_s, ttl_s, more.keep_result) end
    if status ~= 'retried' then
      -- What waits for a job, and is odd, must not change what becomes of it.
      pcall(notify, queue, id, status, more.again and -1 or ttl_s, more.part)
      if status == 'finished' and ttl_s == 0 and not more.again then
        call('DEL', key, RQ .. 'results:' .. id, RQ .. 'job::' .. id .. ':dependencies')
      elseif status == 'finished' and ttl_s ~= 0 or kind > 0 then
        keep(queue, id, status, ttl_s, more)
      end
    end
  elseif not job then  -- a key of another type: it is shown among the failed ones, with the reason
    add_to(RQ .. 'failed:' .. queue, NOW + ttl_s, id)
    add_result(id, execution, kind, value, started_s, ended_s, ttl_s)
  end
  if runs_again then end_execution(queue, id, execution) end
  settled[#settled + 1] = member
  if more.limit then free_slot(more.limit, id) end
  for _, what in ipairs(more.todo or {}) do remember(queue, what .. ' ' .. id) end
  local count = more.count or 'successful'
  if counts[count] then counts[count], worked_s = counts[count] + 1, worked_s + (ended_s - started_s) end
  return true
end

even_if_full()
local done = 0
for _, outcome in ipairs(outcomes) do
  outcome[12] = outcome[12] or NONE
  if finish(unpack(outcome, 1, 12)) then done = done + 1 end
end
for registry, list in pairs(registries) do try('ZADD', registry, unpack(list)) end
let_go(worker, settled)
if #settled > 0 and call('EXISTS', KEYS[1]) == 1 then
  if call('EXISTS', OWN .. 'held:' .. worker) == 0 then try('HSET', KEYS[1], 'state', 'idle') end
  if counts.successful > 0 then try('HINCRBY', KEYS[1], 'successful_job_count', counts.successful) end
  if counts.failed > 0 then try('HINCRBY', KEYS[1], 'failed_job_count', counts.failed) end
  if worked_s > 0 then try('HINCRBYFLOAT', KEYS[1], 'total_working_time', worked_s) end
end
return done
