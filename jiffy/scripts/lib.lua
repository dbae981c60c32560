-- What the scripts share.  Expects no KEYS and ARGV of its own; short, since a script pays for each function it defines.
-- A script's writes are not undone when it fails, so what can fail comes first, and an id leaves one key only in the
-- script that adds it to another, with nothing that can fail between the two.
local RQ, OWN = '@RQ@', '@OWN@'
-- `try` answers with a table that has `err` where a key holds something else: it is for what must not keep a script from
-- the rest of its work, and whose loss loses no job.
local call, try = redis.call, redis.pcall

-- A command on a key that only we write, or on a registry of RQ's: where that holds something else (another type, a count
-- that is no number), it is deleted, and the command sent again.
local function call_own(command, key, ...)
  local answer = try(command, key, ...)
  local why = type(answer) == 'table' and answer.err
  if not why then return answer end
  if string.find(why, 'WRONGTYPE') or string.find(why, 'integer') or string.find(why, 'overflow') then call('DEL', key) end
  return call(command, key, ...)
end

-- A field as a number; nil for what is none, and for "nan", which Redis refuses as a score.
local function number_of(raw)
  local number = tonumber(raw)
  return number == number and number or nil
end

-- An execution's id: 8 hex digits of the worker that claimed it, 8 of its process, 8 of the batch, 8 of the job's position
-- there, from 1.  Those of a worker sort by age.
local WORKER, BATCH = 8, 24

local function job_key(id) return RQ .. 'job:' .. id end
local function queue_of(key) return string.sub(key, #RQ + #'queue:' + 1) end

-- Wake one worker that sleeps at a queue, unless one has been woken and has not looked yet.
local function wake(queue)
  local token = OWN .. 'wake:' .. queue
  if call_own('LLEN', token) == 0 then call('LPUSH', token, 1) end
end

-- Put a job on its queue; false where the queue's key holds something else.
local function push(queue, id, is_front)
  local key = RQ .. 'queue:' .. queue
  local length = try(is_front and 'LPUSH' or 'RPUSH', key, id)
  if type(length) ~= 'number' then return false end
  try('SADD', RQ .. 'queues', key)
  wake(queue)
  return true
end

local MOST_KEYS = 1000  -- that one call looks at; the rest comes with the next one

-- Let a script go on where Redis is full: jobs that are there are to be finished.  Redis refuses nothing to a script
-- that has begun with a write that needs no memory.
local function even_if_full() call('DEL', OWN .. 'nothing') end

local time = call('TIME')
-- As text: a Lua number that becomes text loses its microseconds.
local NOW = string.format('%d.%06d', time[1], time[2])

-- A number of seconds, and the moment when they are over, as strings: a number costs Redis more each time than all else
-- that is done with it.
local lasts = {}
local function lasting(seconds)
  local last = lasts[seconds]
  if not last then
    last = {tostring(seconds), string.format('%.6f', NOW + seconds)}
    lasts[seconds] = last
  end
  return last[1], last[2]
end

-- RQ's text of this moment, 2026-11-20T13:04:09.123456Z.  Lua here has no dates: days are counted
-- from March on, where a year's leap day is its last.
local date_text
local function date()
  if date_text then return date_text end
  local floor, seconds = math.floor, tonumber(time[1])
  local day = floor(seconds / 86400) + 719468  -- since 0000-03-01
  local era = floor(day / 146097)
  local day_of_era = day - era * 146097
  local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
    - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * day_of_year + 2) / 153)
  local day_of_month = day_of_year - floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  year = year + era * 400 + (month <= 2 and 1 or 0)
  seconds = seconds % 86400
  date_text = string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day_of_month,
    floor(seconds / 3600), floor(seconds / 60) % 60, seconds % 60, time[2])
  return date_text
end

-- Fields of a hash ('' counts as missing); nil where the key holds something else.
local function fields(key, ...)
  local values = try('HMGET', key, ...)
  if values.err then return nil end
  for i = 1, #values do
    if values[i] == '' then values[i] = false end
  end
  return values
end

-- What few jobs have.  One that has none of the first MARKS of these fields has none of them.
local DETAILS, MARKS = {'jiffy:alone', 'jiffy:rescue', 'jiffy:isolate', 'jiffy:join', 'success_callback_name',
  'failure_callback_name', 'stopped_callback_name', 'repeats_left', 'webhooks', 'dependency_ids', 'rate_limit_key', 'retries_left',
  'number_of_retries', 'failure_ttl', 'repeat_intervals', 'retry_intervals', 'enqueue_at_front_on_retry', 'jiffy:retry',
  'jiffy:reason', 'started_at'}, 14

-- {name, value, …}; of a value that is too large to be right, only that it is there.
local function details_of(key)
  local found, values = {}, fields(key, unpack(DETAILS)) or {}
  for i, value in ipairs(values) do
    if value then found[#found + 1], found[#found + 2] = DETAILS[i], #value < 20000 and value or '?' end
  end
  return found
end

-- Let workers of a queue do something beside its jobs, in so many s or now: claim.lua hands it out.
local function remember(queue, line, in_s)
  call_own('ZADD', OWN .. 'todo:' .. queue, in_s and NOW + in_s or NOW, line)
  wake(queue)
end

-- How the started registry names an execution; RQ 1 wrote the id alone.
local function member_of(id, execution) return execution == '' and id or id .. ':' .. execution end

-- End executions of jobs of one queue that a worker holds: {member, queue, id, execution} each.
local function end_executions(worker, queue, ended)
  local members, records = {}, {}
  for i, held in ipairs(ended) do
    members[i], records[i] = held[1], RQ .. 'execution:' .. held[1]
    try('ZREM', RQ .. 'executions:' .. held[3], held[4])
  end
  try('ZREM', RQ .. 'wip:' .. queue, unpack(members))
  call('DEL', unpack(records))
  try('HDEL', OWN .. 'held:' .. worker, unpack(members))
  try('SREM', RQ .. 'worker:' .. worker .. ':executions', unpack(members))
end

-- Of a hash that only we write, as much as ours can have: {field, value, …}.
local function some_of(key) return call_own('HRANDFIELD', key, MOST_KEYS, 'WITHVALUES') end

-- What a worker holds, in the order in which it claimed it: {member, queue, id, execution}; and whether that is all.
local function held_by(worker)
  local held, flat = {}, some_of(OWN .. 'held:' .. worker)
  for i = 1, #flat, 2 do
    local id, execution = string.match(flat[i], '^(.*):([^:]*)$')
    if id then held[#held + 1] = {flat[i], flat[i + 1], id, execution} else call('HDEL', OWN .. 'held:' .. worker, flat[i]) end
  end
  table.sort(held, function(a, b) return a[4] < b[4] end)
  return held, #flat < 2 * MOST_KEYS
end

-- Whether the started registry has lost an execution: it was deleted, or evicted.
local function is_lost(worker, id, member)
  local job = call('EXISTS', RQ .. 'execution:' .. member) == 1 and fields(job_key(id), 'status', 'worker_name') or {}
  return job[1] == 'started' and job[2] == worker
end

-- Let a worker hold again what it runs, by RQ's set of its executions, where ours was lost; `token` begins these.
local function hold_lost(worker, token)
  local executions, holds = RQ .. 'worker:' .. worker .. ':executions', OWN .. 'held:' .. worker
  local count = try('SCARD', executions)
  if type(count) ~= 'number' or count <= call_own('HLEN', holds) then return end
  for _, member in ipairs(call('SRANDMEMBER', executions, MOST_KEYS)) do
    local id = string.match(member, '^(.*):' .. token .. '[^:]*$')
    local queue = id and is_lost(worker, id, member) and fields(job_key(id), 'origin')[1]
    if queue then call('HSETNX', holds, member, queue) end
  end
end

-- Add a worker to RQ's sets of workers, or take it off: SADD or SREM.
local function name_worker(command, key)
  for queue in string.gmatch(string.sub((fields(key, 'queues') or {})[1] or '', 1, 10000), '[^,]+') do
    try(command, RQ .. 'workers:' .. queue, key)
  end
  try(command, RQ .. 'workers', key)
end

-- Whether what a worker holds is there and still its own to run.
local function still_runs(worker, held)
  local member, queue, id = unpack(held)
  return call('EXISTS', job_key(id)) == 1 and (try('ZSCORE', RQ .. 'wip:' .. queue, member) or is_lost(worker, id, member))
end

-- History: what became of attempts, counted by the minute until a supervisor packs that minute (history.py).
local MOST_COUNTS = 5000  -- of one minute: however many functions there are, it stays small

-- `group`: how the attempt ended, the buckets of how long it waited and ran (-1: unknown), then its function, or '?'.
local function count_attempts(queue, id, group, count, ran_s)
  local minute = OWN .. 'history:now:' .. math.floor(NOW / 60)
  local size = call_own('HLEN', minute)
  local ended, func = string.match(group, '^(%S+ %S+ %S+) (.*)$')
  if func == '?' then func = string.match((fields(job_key(id), 'data') or {})[1] or '', '^%["([%w_.]+)"') end
  if not func or #func > 300 then func = 'other' end
  local name = size > MOST_COUNTS and 'other\nother' or func .. '\n' .. queue
  call_own('HINCRBY', minute, ended .. ' ' .. name, count)
  local ran_ms = string.format('%.0f', ran_s * 1000)
  if ran_ms ~= '0' then call_own('HINCRBY', minute, 'ran_ms - - ' .. name, ran_ms) end
  if size == 0 then call('EXPIRE', minute, 1800) end
end
