-- Make the ticks of entries: a job of each, on its queue, and the entry moved on; in one step and once for each slot.
-- KEYS: rq-scheduler's entries, the open ticks, RQ's set of queues
-- ARGV: now in seconds, now as RQ writes it, then a JSON list for each entry: id, its time as it was seen ('': leave it),
--       its next time ('': never), how many ticks at most (0: no end), overlap, lines for its history, ticks: [line, job]
-- Returns for each entry an error's text, 0 if it was moved, or a list: for each tick '' if it was enqueued, or why not;
--         and last why the entry is paused, or '' if it is not.
--include lib
local now_s, now = tonumber(ARGV[1]), ARGV[2]
local HISTORY, FIRST_LOOK_S = 1000, 1
local waits = {queued = 'queued', scheduled = 'waiting to be tried again', deferred = 'waiting'}

local function why_paused(entry, raw)
  if not raw then return nil end
  local pause = cjson.decode(raw)
  local ends = pause['until']
  if ends ~= cjson.null and ends <= now_s then
    redis.call('HDEL', entry, 'paused')
    return nil
  end
  return string.format('paused by %s: %s', pause.who, pause.why)
end

local function take_off_and_cancel(id, origin)
  redis.call('LREM', RQ .. 'queue:' .. origin, 0, id)
  redis.call('ZREM', RQ .. 'scheduled:' .. origin, id)
  redis.call('ZREM', RQ .. 'deferred:' .. origin, id)
  cancel(origin, id, 'the next tick replaced it')
end

-- Why a tick's job is in the way of the next, nil if it is not; then its id, if it runs.  A job that is replaced is
-- canceled or stopped.
local function in_the_way(id, overlap)
  local job = redis.call('HMGET', RQ .. 'job:' .. id, 'status', 'origin', 'worker_name')
  local is_running, waiting = job[1] == 'started', waits[job[1]]
  if overlap == 'replace' then
    if waiting then take_off_and_cancel(id, job[2] or 'default') end
    if is_running then
      redis.call('PUBLISH', RQ .. 'pubsub:' .. (job[3] or ''), cjson.encode({command = 'stop-job', job_id = id}))
    end
  elseif waiting or (is_running and overlap == 'skip') then
    return string.format('tick %s is still %s', string.match(id, '[^-]*$'), waiting or 'running')
  elseif is_running then
    return nil, id
  end
end

-- The same of the last tick, of the one that it was to wait for (it may have been canceled while that one runs), and
-- of the last job that somebody asked for.
local function why_not_beside(state, overlap)
  local behind
  for _, name in ipairs({'last', 'ahead', 'asked'}) do
    if state[name] then
      local reason, running = in_the_way(state[name], overlap)
      if reason then return reason end
      behind = behind or running
    end
  end
  return nil, behind
end

-- Why there is to be no job, or nil; then the job behind which it is to wait, if there is one.
local function why_not(entry, state, overlap)
  if state.paused then return state.paused end
  if state.skip > 0 then
    state.skip = state.skip - 1
    redis.call('HSET', entry, 'skip', state.skip)
    return 'it was asked to skip'
  end
  if overlap ~= 'allow' then return why_not_beside(state, overlap) end
end

-- Let a job wait for the end of one that runs, however that ends: join.lua releases it.
local function wait_behind(running, id, queue)
  redis.call('ZADD', RQ .. 'deferred:' .. queue, now_s, id)
  redis.call('ZADD', OWN .. 'joins', now_s, id)
  redis.call('HSET', OWN .. 'join:' .. id, 'queue', queue, 'needs', 'end', 'count', 1)
  redis.call('ZADD', OWN .. 'pending:' .. id, 0, running)
  redis.call('HSET', RQ .. 'job:' .. running, 'jiffy:join', id)
end

-- What an entry has that its jobs have not, or each of its own.
local not_copied = {['jiffy:entry'] = 1, ['jiffy:timing'] = 1, ['jiffy:times'] = 1, ['jiffy:policy'] = 1,
  ['jiffy:meta'] = 1, meta = 1, status = 1, created_at = 1, enqueued_at = 1}
local sleepers, is_leader_woken = {}, false
local counted_as, counts = {t = 'enqueued', n = 'enqueued', s = 'skipped', m = 'missed'}, {}
-- Returns false where that job is there already: the entry's time was set back by hand.
local function enqueue(id, job_id, overlap, behind)
  local job = RQ .. 'job:' .. job_id
  if redis.call('EXISTS', job) == 1 then return false end
  local flat, has = redis.call('HGETALL', RQ .. 'job:' .. id), {}
  local fields = {'status', behind and 'deferred' or 'queued', 'created_at', now}
  local n = #fields
  local function set(name, value)
    fields[n + 1], fields[n + 2] = name, value
    n = n + 2
  end
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    has[name] = value
    if not not_copied[name] then set(name, value) end
  end
  if not has.data then error('its job has no data', 0) end
  if has['jiffy:meta'] then set('meta', has['jiffy:meta']) end
  -- A job that names another as waiting for it tells of its end at once; until one waits it names itself.
  if overlap == 'queue one' then set('jiffy:join', job_id) end
  local name = has.origin or 'default'
  if behind then
    wait_behind(behind, job_id, name)
  else
    redis.call(has.enqueue_at_front == '1' and 'LPUSH' or 'RPUSH', RQ .. 'queue:' .. name, job_id)
    set('enqueued_at', now)
    sleepers[RQ .. 'queue:' .. name] = name
  end
  redis.call('HSET', job, unpack(fields))
  local expires = tonumber(has['jiffy:expires'])
  if expires then redis.pcall('ZADD', OWN .. 'expiring', now_s + expires, job_id) end
  if not behind and string.match(has.ttl or '', '^%d+$') then redis.call('EXPIRE', job, has.ttl) end
  return true
end

local function move_on(id, coming, times, has_repeated)
  if coming ~= '' and not has_repeated then
    redis.call('ZADD', KEYS[1], coming, id)
    return
  end
  redis.call('ZREM', KEYS[1], id)
  if coming == '' then redis.call('HSET', OWN .. 'entry:' .. id, 'done', times) end
end

local function make(id, seen, coming, most, overlap, lines, ticks)
  if seen ~= '' then
    local score = redis.call('ZSCORE', KEYS[1], id)
    if not score or tonumber(score) ~= tonumber(seen) then return 0 end
  end
  -- What can fail comes first: a job that is on its queue must not be left without the rest.
  local entry, history = OWN .. 'entry:' .. id, OWN .. 'ticks:' .. id
  local known = redis.call('HMGET', entry, 'paused', 'skip', 'last', 'ahead', 'asked', 'counted', 'ticks')
  local times = redis.call('HGET', RQ .. 'job:' .. id, 'jiffy:times') or ''
  redis.call('LLEN', history)
  local state = {paused = why_paused(entry, known[1]), skip = tonumber(known[2]) or 0, last = known[3] or nil,
    ahead = known[4] ~= '' and known[4] or nil, asked = known[5] or nil}
  local made, answers = known[6] == times and tonumber(known[7]) or 0, {}
  -- What is paused misses nothing.
  for i, line in ipairs(state.paused and lines or {}) do
    lines[i] = 's' .. string.match(line, '^m(.*|)') .. string.sub(state.paused, 1, 150)
  end
  for i, tick in ipairs(ticks) do
    local line, job_id = tick[1], tick[2]
    local is_asked_for = string.sub(line, 1, 1) == 'n'
    local reason, behind = 'it is done', nil
    if is_asked_for then
      reason = nil
    elseif most == 0 or made < most then
      reason, behind = why_not(entry, state, overlap)
    end
    if reason then
      lines[#lines + 1] = 's' .. string.sub(line, 2) .. string.sub(reason, 1, 150)
    elseif enqueue(id, job_id, overlap, behind) then
      lines[#lines + 1] = line
      if is_asked_for then
        is_leader_woken = true
        redis.call('HSET', entry, 'asked', job_id)
      else
        made, state.last, state.ahead = made + 1, job_id, behind
        redis.call('HSET', entry, 'last', job_id, 'ahead', behind or '')
        if most > 0 then redis.call('HSET', entry, 'ticks', made, 'counted', times) end
      end
      redis.pcall('ZADD', KEYS[2], now_s + FIRST_LOOK_S, id .. ' ' .. job_id .. ' ' .. line)
    else
      reason = 'it is there already'
    end
    answers[i] = reason or ''
  end
  answers[#answers + 1] = state.paused or ''
  if #lines > 0 and redis.call('LPUSH', history, unpack(lines)) > HISTORY then
    redis.call('LTRIM', history, 0, HISTORY - 1)
  end
  for _, line in ipairs(lines) do
    local what = counted_as[string.sub(line, 1, 1)]
    counts[what] = (counts[what] or 0) + 1
  end
  if seen ~= '' then move_on(id, coming, times, most > 0 and made >= most) end
  return answers
end

local results = {}
for i = 3, #ARGV do
  -- One entry that is broken must not stop the others; what can fail comes first, as nothing is undone.
  local is_fine, answer = pcall(make, unpack(cjson.decode(ARGV[i])))
  results[#results + 1] = is_fine and answer or (type(answer) == 'table' and answer.err or tostring(answer))
end
-- These jobs are there: no key that is broken may keep the caller from hearing of it.
for what, count in pairs(counts) do redis.pcall('HINCRBY', OWN .. 'tick_counts', what, count) end
-- It waits for times of its own, and is to see what becomes of this one.
if is_leader_woken and redis.pcall('LLEN', OWN .. 'schedule:wake') == 0 then
  redis.call('LPUSH', OWN .. 'schedule:wake', 1)
end
for queue, name in pairs(sleepers) do
  redis.pcall('SADD', KEYS[3], queue)
  pcall(wake, name)
end
return results
