-- A worker's turn: settle what it finished, give back what it will not run, take more.
-- KEYS: worker hash, its held list, its last turn, leases, "suspended", then the queues in order
-- ARGV: worker, how many to take, lease in s (0: the job's), execution prefix, outcomes, kept ("all")
-- Returns suspended (0/1), positions of outcomes that need RQ's own way, field lengths, fields
--include wake
--include now
--include expire
local worker, want, lease_s, prefix = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local outcomes, kept = cjson.decode(ARGV[5]), cjson.decode(ARGV[6])

-- A turn that Redis was too slow to hear in time (it was frozen, say) was taken again meanwhile.  If
-- it comes after all, it must not undo the newer one: a process' prefixes grow from turn to turn.
-- No prefix: the supervisor settles what a child has noted, at whatever time.
local last = prefix ~= '' and redis.call('GET', KEYS[3])
if last and string.sub(last, 1, 16) == string.sub(prefix, 1, 16) and prefix <= last then
  return {0, {}, '', ''}
end

local held = redis.call('GET', KEYS[2])
held = held and cjson.decode(held) or {}

-- An execution is a worker's own as long as the started registry names it.  Taking it off that list
-- is what decides, so a late or repeated outcome changes nothing.  ZREM comes first for another
-- reason too: it frees memory, so a Redis that is full still lets a worker settle and drain.
local function let_go(queue, id, execution)
  local is_own = redis.call('ZREM', 'rq:wip:' .. queue, id .. ':' .. execution) == 1
  redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
  redis.call('ZREM', 'rq:executions:' .. id, execution)
  return is_own
end

-- Entries for the sorted sets, to be added with one call each.
local entries = {}
local function enter(set, score, member)
  local list = entries[set]
  if not list then
    list = {}
    entries[set] = list
  end
  list[#list + 1] = score
  list[#list + 1] = member
end

-- For chains and groups; put together only where it is needed.
local function tell_who_waits(...)
--include join
  member_is_over(...)
end

-- [queue, id, execution, started, ended, started_s, ended_s, result_ttl, return value in base64, the same as
-- JSON where another job waits for it]
local rare, done, finished, worked_s = {}, {}, 0, 0
for position, o in ipairs(outcomes) do
  local queue, id, execution, ttl = o[1], o[2], o[3], o[8]
  local key = 'rq:job:' .. id
  if redis.call('EXISTS', key .. ':dependents') == 1 then
    rare[#rare + 1] = position - 1
    kept[#kept + 1] = execution
  else
    done[execution] = true
    if let_go(queue, id, execution) and redis.call('EXISTS', key) == 1 then
      -- pcall: a key that somebody made another type of must not stop what follows.
      redis.pcall('HSET', key, 'status', 'finished', 'started_at', o[4], 'ended_at', o[5],
        'last_heartbeat', o[5], 'worker_name', worker)
      local results = 'rq:results:' .. id
      local entry = {'type', 1, 'worker_name', worker}
      if o[9] then entry[5], entry[6] = 'return_value', o[9] end
      local n = #entry
      entry[n + 1], entry[n + 2] = 'execution_id', execution
      entry[n + 3], entry[n + 4] = 'execution_started_at', o[6]
      entry[n + 5], entry[n + 6] = 'execution_ended_at', o[7]
      redis.pcall('XADD', results, 'MAXLEN', '~', 10, '*', unpack(entry))
      if ttl < 0 then
        redis.call('PERSIST', results)
        enter('rq:finished:' .. queue, '+inf', id)
      else
        redis.call('EXPIRE', results, ttl)
        redis.call('EXPIRE', key, ttl)
        enter('rq:finished:' .. queue, now_s + ttl, id)
      end
      if o[10] then
        local waiting = redis.pcall('HGET', key, 'jiffy:join')
        if type(waiting) == 'string' then
          pcall(tell_who_waits, waiting, id, 'finished', o[10], 'null', o[5])
        end
      end
      finished, worked_s = finished + 1, worked_s + (o[7] - o[6])
    end
  end
end

-- If it was to wait for work next, in the same exchange, it must not: these come first.
if #rare > 0 then
  -- To a full Redis, what follows a deletion is no longer refused: they must get to where memory is freed.
  redis.call('DEL', 'jiffy:rare:' .. worker)
  redis.call('LPUSH', 'jiffy:rare:' .. worker, 1)
  redis.call('EXPIRE', 'jiffy:rare:' .. worker, 60)
end

-- Whatever else it held and does not keep goes back to the front, in its old order.
local keeps, holds = {}, {}
local keeps_all = kept == 'all'
for _, execution in ipairs(keeps_all and {} or kept) do keeps[execution] = true end
for i = #held, 1, -1 do
  local queue, id, execution = held[i][1], held[i][2], held[i][3]
  local is_running = keeps_all and redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
  if keeps[execution] or is_running then
    table.insert(holds, 1, held[i])
  elseif not done[execution] and let_go(queue, id, execution) then
    redis.call('LPUSH', 'rq:queue:' .. queue, id)
    if redis.call('EXISTS', 'rq:job:' .. id) == 1 then
      redis.pcall('HSET', 'rq:job:' .. id, 'status', 'queued')
    end
  end
end

-- [kind, id, execution, queue, data, timeout, result_ttl], kind: plain, member, full or corrupt; or
-- expired, which is canceled already: then the reason stands in place of its data
local fields, lengths = {}, {}
local function answer(...)
  for _, value in ipairs({...}) do
    fields[#fields + 1] = value
    lengths[#lengths + 1] = #value
  end
end

-- What has callbacks, repeats, webhooks or parents is handed to RQ's own methods; what another
-- job waits for is not plain either, when it ends.
local function kind_of(job)
  if not job[1] then return 'corrupt' end
  for i = 4, 9 do
    if job[i] and job[i] ~= '' then return 'full' end
  end
  if job[10] and job[10] ~= '' then return 'member' end
  return 'plain'
end

local now_text = want > 0 and now_as_text()
local taken, longest = 0, 0  -- the longest time limit of what is taken
-- Returns what becomes of the ids behind it: nil (go on), or how many from here on were taken.
local function take(name, id)
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, 'data', 'timeout', 'result_ttl', 'success_callback_name',
    'failure_callback_name', 'stopped_callback_name', 'repeats_left', 'webhooks', 'dependency_ids',
    'jiffy:join', 'ttl', 'jiffy:alone', 'jiffy:expires')
  local kind = 'corrupt'
  if job.err then
    job = {}
  else
    kind = kind_of(job)
    if not job[1] and redis.call('EXISTS', key) == 0 then return nil end  -- deleted: nobody waits
  end
  -- What has a time to live loses it as it is taken, so it must not go back unbegun.
  local has_ttl = job[11] and job[11] ~= ''
  local is_alone = job[12] or has_ttl
  local expires = job[1] and job[13] and tonumber(string.match(job[13], '^%d+$'))
  local waited = expires and waited_s(key, now_s)
  if waited then
    is_alone = waited <= expires
    if not is_alone then kind = 'expired' end
  end
  -- What may have killed a worker is taken alone, so that no other job is blamed with it; and so is
  -- what must begin in time: once taken it counts as begun, so it must not wait behind another.
  if is_alone and taken > 0 then return 0 end
  taken = taken + 1
  if expires then redis.call('ZREM', 'jiffy:expiring', id) end
  local execution = prefix .. string.format('%08x', taken)
  if kind == 'expired' then
    answer(kind, id, execution, name, expire(name, id, expires), '', '')
    return nil
  end
  local limit = tonumber(job[2]) or 180
  longest = math.max(longest, limit > 0 and math.min(limit, 1e9) or 360)
  local ttl = (limit > 0 and math.min(limit, 30) or 30) + 60
  if kind ~= 'corrupt' then
    redis.call('HSET', key, 'status', 'started', 'started_at', now_text, 'last_heartbeat', now_text,
      'worker_name', worker)
    if has_ttl then redis.call('PERSIST', key) end
  end
  enter('rq:wip:' .. name, now_s + ttl, id .. ':' .. execution)
  redis.call('HSET', 'rq:execution:' .. id .. ':' .. execution, 'id', execution, 'job_id', id,
    'created_at', now_s, 'last_heartbeat', now_s, 'worker_name', worker)
  redis.call('EXPIRE', 'rq:execution:' .. id .. ':' .. execution, ttl)
  redis.call('ZADD', 'rq:executions:' .. id, now_s + ttl + 60, execution)
  redis.call('EXPIRE', 'rq:executions:' .. id, ttl + 60)
  holds[#holds + 1] = {name, id, execution}
  answer(kind, id, execution, name, job[1] or '', job[2] or '', job[3] or '')
  return is_alone and 1
end

local suspended = redis.call('EXISTS', KEYS[5])
if want > 0 and suspended == 0 then
  for i = 6, #KEYS do
    local queue, name = KEYS[i], string.sub(KEYS[i], 10)
    local length = redis.pcall('LLEN', queue)  -- a key of another type holds no jobs
    if type(length) == 'number' and length > 0 and taken < want then
      -- A fair share: what an idle worker of this queue could run at once is left to it.
      local workers = redis.call('SCARD', 'rq:workers:' .. name)
      local share = math.max(1, math.min(want - taken, math.ceil(length / math.max(1, workers))))
      local enough, is_cut = taken + share, false
      while taken < enough do
        local ids = redis.call('LPOP', queue, enough - taken)
        if not ids then break end
        for position, id in ipairs(ids) do
          local last = take(name, id)
          if last then
            local rest = {}
            for i = #ids, position + last, -1 do rest[#rest + 1] = ids[i] end
            if #rest > 0 then redis.call('LPUSH', queue, unpack(rest)) end
            want, enough, is_cut = taken, taken, #rest > 0
            break
          end
        end
      end
      -- One wakes the next: whoever takes and leaves something makes sure that a sleeper hears of it.
      if length > share or is_cut then wake(name) end
    end
  end
end

for set, list in pairs(entries) do redis.call('ZADD', set, unpack(list)) end

if #holds + #held > 0 and prefix ~= '' then redis.call('SET', KEYS[3], prefix, 'EX', 86400) end
local executions = KEYS[1] .. ':executions'
if #held > 0 then redis.call('DEL', executions) end
if #holds > 0 then
  redis.call('SET', KEYS[2], cjson.encode(holds))
  local members = {}
  for i, h in ipairs(holds) do members[i] = h[2] .. ':' .. h[3] end
  redis.call('SADD', executions, unpack(members))
  -- 0: nobody renews it, so it lasts for as long as RQ's SimpleWorker's does.
  local lease = lease_s
  if lease == 0 then
    lease = longest + 60
    redis.call('EXPIRE', KEYS[1], math.ceil(lease))
  end
  redis.call('EXPIRE', executions, math.ceil(lease) + 150)
  redis.call('ZADD', KEYS[4], 'GT', now_s + lease, worker)
  redis.call('HSET', KEYS[1], 'state', 'busy')
elseif #held > 0 then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'state', 'idle')
elseif want > 0 then
  local state = suspended == 1 and 'suspended' or 'idle'
  if redis.call('HGET', KEYS[1], 'state') ~= state then
    redis.call('HSET', KEYS[1], 'state', state)
  end
end
if finished > 0 then
  redis.call('HINCRBY', KEYS[1], 'successful_job_count', finished)
  redis.call('HINCRBYFLOAT', KEYS[1], 'total_working_time', worked_s)
end
return {suspended, rare, table.concat(lengths, ','), table.concat(fields)}
