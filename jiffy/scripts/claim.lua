-- Requeue what a worker holds and will not run, then claim jobs for it from the queues in order.
-- KEYS: the worker's hash, suspended, then the queues
-- ARGV: the worker's name;
--       how many to claim at most (0: only what is to do beside jobs);
--       lease in s (0: for as long as the jobs may run);
--       prefix of the new executions, which ends with the job's position, from 1;
--       the last execution that it has begun ('': none): it keeps what it holds of that batch up to this one, since the
--       outcomes that are sent with this may not have been written; all else that it holds is requeued
-- Returns are workers suspended (0 or 1);
--         is there more to look at now (0 or 1);
--         what to do beside jobs ({queue, its line in the todo list, how often it was handed out, its score there}, or {});
--         the functions that are paused;
--         the lengths, 32 bits each, of what the next one has of each job: kind, id, queue, data, timeout, result_ttl and
--         enqueued_at;
--         all of these in one string;
--         of those jobs that have details: position, then what `details_of` returns
-- Kinds: sound; corrupt; expired (canceled already: its data is the reason)
--include lib
--include of_waiting
even_if_full()
local worker, want, lease_s, prefix, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local is_renewed = lease_s > 0  -- or else these calls are this worker's only heartbeat

-- A claim whose answer was lost is sent again and requeues what the first one claimed.  If the first one arrives last
-- (Redis was frozen, for example), it must not requeue what runs by now.
local held, kept = held_by(worker), 0
local newest = #held > 0 and held[#held][4] or ''
local function is_same(length, one, other) return string.sub(one, 1, length) == string.sub(other, 1, length) end
-- Another worker has its name by now: that one runs what is held, and would requeue what is claimed here.
local state, owner = unpack(fields(KEYS[1], 'state', 'jiffy:token') or {})
if owner and not is_same(WORKER, prefix, owner) then return {0, 0, {}, {}, '', '', {}} end
if is_same(WORKER, prefix, newest) and newest >= prefix then return {0, 0, {}, {}, '', '', {}} end
for i = #held, 1, -1 do
  local execution = held[i][4]
  local is_kept = is_same(BATCH, keep, execution) and execution <= keep
  if is_kept or not requeue(worker, held[i]) then kept = kept + 1 end
end

local strings, lengths, details, holds, members, scores = {}, {}, {}, {}, {}, {}
local claimed, longest_ttl_s, bytes = 0, 0, 0
local MOST_BYTES = 1000000  -- of jobs' data in one answer: Redis makes several copies of it
local function answer(kind, id, queue, data, timeout, result_ttl, enqueued)
  lengths[#lengths + 1] = struct.pack('>I4I4I4I4I4I4I4', #kind, #id, #queue, #data, #timeout, #result_ttl, #enqueued)
  strings[#strings + 1] = kind .. id .. queue .. data .. timeout .. result_ttl .. enqueued
end

-- For how many s RQ is to believe in an execution, as get_heartbeat_ttl of its Worker or SimpleWorker, by time limit.
local ttls = {}
local function ttl_of(limit)
  if not ttls[limit] then
    local limit_s = tonumber(limit) or 180
    local ttl_s = limit_s > 0 and math.min(limit_s, is_renewed and 30 or 1e9) or is_renewed and 30 or 360
    ttls[limit] = math.ceil(ttl_s) + 60
    longest_ttl_s = math.max(longest_ttl_s, ttls[limit])
  end
  return ttls[limit]
end

local suspended, paused, parked = call('EXISTS', KEYS[2], OWN .. 'paused'), nil, 0
if suspended > 0 then suspended, paused = call('EXISTS', KEYS[2]), of_waiting().read_pauses() end

-- Claim one job.  Returns 'last' if nothing more is to be claimed with it, 'later' if it must wait for the next call.
local function claim(queue, id)
  local key = job_key(id)
  local job = fields(key, 'data', 'timeout', 'result_ttl', 'enqueued_at', 'ttl', 'jiffy:expires', 'jiffy:alone', 'jiffy:rescue',
    unpack(DETAILS, 3, MARKS))  -- the first two stand before it
  if job and not job[1] and call('EXISTS', key) == 0 then return nil end  -- it was deleted
  local data, timeout, result_ttl, enqueued, ttl, expires, alone, rescue = unpack(job or {})
  local path = paused and of_waiting().function_of(data)
  if path and paused['func:' .. path] then
    parked = parked + 1
    of_waiting().park(id, path, parked)
    return nil
  end
  -- A job that may have killed a worker is claimed alone, so that no other one is blamed for the next death; one that
  -- must begin in time, since it has its slot from now on and must not wait behind another; and one that must not begin
  -- twice, so that it is known whether it had begun.
  local is_alone = ttl or expires or alone or rescue
  if is_alone and claimed > 0 then return 'later' end
  claimed = claimed + 1
  local expires_s = number_of(expires)
  local deadline = expires_s and call_own('ZSCORE', OWN .. 'expiring', id)
  if deadline and tonumber(deadline) < tonumber(NOW) then
    answer('expired', id, queue, of_waiting().expire(queue, id, expires_s), '', '', '')
    return nil
  end
  if deadline then call('ZREM', OWN .. 'expiring', id) end
  local left_ms = ttl and call('PTTL', key) or -1
  local due = deadline or left_ms >= 0 and string.format('%.3f', NOW + left_ms / 1000)
  local lease_ttl_s = ttl_of(timeout or '')
  local lease_ttl, ends = lasting(lease_ttl_s)
  local records_ttl, records_end = lasting(lease_ttl_s + 60)
  local execution = prefix .. string.format('%08x', claimed)
  local member = id .. ':' .. execution
  if data then
    call('HSET', key, 'status', 'started', 'started_at', date(), 'last_heartbeat', date(), 'worker_name', worker)
    -- It may have had a ttl while it was queued, or since it ended before.
    try('PERSIST', key)
  end
  local registry = scores[queue] or {}
  scores[queue] = registry
  registry[#registry + 1], registry[#registry + 2] = ends, member
  local record, records = RQ .. 'execution:' .. member, RQ .. 'executions:' .. id
  try('HSET', record, 'id', execution, 'job_id', id, 'created_at', NOW, 'last_heartbeat', NOW, 'worker_name', worker)
  if due then try('HSET', record, 'jiffy:due', due) end  -- for `requeue`
  try('EXPIRE', record, lease_ttl)
  try('ZADD', records, records_end, execution)
  try('EXPIRE', records, records_ttl)
  members[#members + 1] = member
  holds[#holds + 1], holds[#holds + 2] = member, queue
  for i = 7, job and 6 + MARKS or 0 do
    if job[i] then
      details[#details + 1] = {claimed, unpack(details_of(key))}
      break
    end
  end
  answer(data and 'sound' or 'corrupt', id, queue, data or '', timeout or '', result_ttl or '', enqueued or '')
  bytes = bytes + #(data or '')
  return (is_alone or bytes > MOST_BYTES) and 'last'
end

-- What is to do beside jobs: dependents are released here and now, the rest is handed out.
local more, todo = 0, {}
local function look_for_todo(queue)
  local list = OWN .. 'todo:' .. queue
  local due, at = unpack(call_own('ZRANGE', list, 0, 0, 'WITHSCORES'))
  -- The worker that is given it has two minutes, or as long as its callback may take, up to an hour; then the next is given it.
  local when, callback_of = string.match(due or '', '^on_(%a+) (.*)$')
  local limit_s = when and (fields(job_key(callback_of), when .. '_callback_timeout') or {})[1]
  local longest_s = math.min(math.max(120, 20 + (string.match(limit_s or '', '^%d+$') or 0)), 3600)
  local wait_s = due and at - NOW or 0
  -- Nothing is put off for longer, unless Redis' clock was set back since.
  if wait_s > 0 and wait_s < longest_s + 1 then return end
  local status, cursor, id = string.match(due or '', '^release (%a+) (%d+) (.*)$')
  if id then
    call('ZREM', list, due)
    local its = fields(job_key(id), 'status', 'ended_at') or {}
    -- They wait on for another job that has its id by now, and for one that was retried.
    local is_over = not its[1] or its[1] == status or its[2]
    if is_over and not of_waiting().release_dependents(queue, id, status, cursor, 500) then
      -- The others' names are kept as long as the job: no longer, if that was deleted.  One that was retried is kept on.
      local left_s = call('TTL', job_key(id))
      if left_s == -2 or left_s ~= -1 and its[1] == status then call('EXPIRE', job_key(id) .. ':dependents', left_s) end
    end
    more = 1
  elseif due and claimed == 0 then  -- behind no job of a queue before this one
    local _, until_then = lasting(longest_s)
    call('ZADD', list, until_then, due)
    todo = {queue, due, call_own('HINCRBY', OWN .. 'todo:tries', due, 1), until_then}
  end
end

-- Claim a fair share of a queue: what an idle worker of it could run at once is left to that one.
local looked_at = 0
local function claim_from(queue, key, length)
  local workers = tonumber(try('SCARD', RQ .. 'workers:' .. queue)) or 1
  local share = math.max(1, math.min(want - claimed, math.ceil(length / math.max(1, workers))))
  local enough, is_cut = claimed + share, false
  while claimed < enough and looked_at < MOST_KEYS do
    local ids = call('LPOP', key, math.min(enough - claimed, MOST_KEYS))
    if not ids then break end
    looked_at = looked_at + #ids
    for position, id in ipairs(ids) do
      local how = claim(queue, id)
      if how then
        local rest = {}
        for j = #ids, position + (how == 'last' and 1 or 0), -1 do rest[#rest + 1] = ids[j] end
        if #rest > 0 then call('LPUSH', key, unpack(rest)) end
        want, enough, is_cut = claimed, claimed, #rest > 0
        break
      end
    end
  end
  if looked_at >= MOST_KEYS then more = 1 end
  -- One wakes the next: a worker that leaves something makes sure that a sleeper looks.
  if length > share or is_cut then wake(queue) end
end

local queues, todos = {}, {}
for i = 3, #KEYS do
  queues[i - 2] = queue_of(KEYS[i])
  todos[i - 2] = OWN .. 'todo:' .. queues[i - 2]
end
if suspended == 0 then
  local has_todo = #todos > 0 and call('EXISTS', unpack(todos)) > 0
  for i, queue in ipairs(queues) do
    local key = KEYS[i + 2]
    if has_todo and #todo == 0 then look_for_todo(queue) end
    local length = try('LLEN', key)
    local has_jobs = type(length) == 'number' and length > 0 and claimed < want and not (paused and paused['queue:' .. queue])
    if has_jobs and #todo > 0 then
      wake(queue)  -- what is handed out is begun now, behind no job: the jobs are others', or come with the next call
    elseif has_jobs and type(try('ZCARD', RQ .. 'wip:' .. queue)) == 'number' then
      claim_from(queue, key, length)
    end
  end
  -- There is nothing here: tokens that are left would only make it look again.
  if claimed + more + #todo == 0 and want > 0 then
    for _, queue in ipairs(queues) do call('DEL', OWN .. 'wake:' .. queue) end
  end
end

-- What was taken from the queues above is recorded: nothing in between can fail, since these keys have been looked at.
for queue, registry in pairs(scores) do call('ZADD', RQ .. 'wip:' .. queue, unpack(registry)) end
if claimed > 0 and #members > 0 then
  call('HSET', OWN .. 'held:' .. worker, unpack(holds))
  try('SADD', RQ .. 'worker:' .. worker .. ':executions', unpack(members))
  call('EXPIRE', RQ .. 'worker:' .. worker .. ':executions', longest_ttl_s)
  call_own('ZADD', OWN .. 'leases', 'GT', NOW + (is_renewed and lease_s or longest_ttl_s), worker)
  try('HSET', KEYS[1], 'state', 'busy')
  call('EXPIRE', KEYS[1], longest_ttl_s)
elseif kept == 0 then
  local now = suspended == 1 and 'suspended' or 'idle'
  if state ~= now then try('HSET', KEYS[1], 'state', now) end
  if not is_renewed then call('EXPIRE', KEYS[1], 480) end
end
if not is_renewed then try('HSET', KEYS[1], 'last_heartbeat', date()) end
local functions = {}
for name in pairs(paused or {}) do functions[#functions + 1] = string.match(name, '^func:(.*)') end
return {suspended, more, todo, functions, table.concat(lengths), table.concat(strings), details}
