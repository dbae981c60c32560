-- Make the ticks of entries: a job of each, on its queue, and the entry moved on; in one step and once for each slot.
-- KEYS: rq-scheduler's entries, the open ticks, RQ's set of queues
-- ARGV: now in seconds, now as RQ writes it, then a JSON list for each entry: id, its time as it was seen ('': leave it),
--       its next time ('': never), how many ticks at most (0: no end), overlap, lines for its history, ticks: [line, job]
-- Returns for each entry an error's text, 0 if it was moved, or a list: for each tick '' if it was enqueued, or why not;
--         and last why the entry is paused, or '' if it is not.
--include wake
local now_s, now = tonumber(ARGV[1]), ARGV[2]
local HISTORY, FIRST_LOOK_S = 1000, 1
local waits = {queued = 'queued', scheduled = 'waiting to be tried again', deferred = 'waiting for others'}

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

-- What Job.cancel of RQ does.
local function cancel(id, origin)
  redis.call('LREM', 'rq:queue:' .. origin, 0, id)
  redis.call('ZREM', 'rq:scheduled:' .. origin, id)
  redis.call('ZREM', 'rq:deferred:' .. origin, id)
  redis.call('ZADD', 'rq:canceled:' .. origin, now_s, id)
  redis.call('HSET', 'rq:job:' .. id, 'status', 'canceled', 'jiffy:reason', 'the next tick replaced it')
end

-- Why the last tick's job is in the way, nil if it is not; a job that is replaced is canceled or stopped.
local function why_not_beside(last, overlap)
  local job = redis.call('HMGET', 'rq:job:' .. last, 'status', 'origin', 'worker_name')
  local is_running, waiting = job[1] == 'started', waits[job[1]]
  if overlap == 'replace' then
    if waiting then cancel(last, job[2] or 'default') end
    if is_running then
      redis.call('PUBLISH', 'rq:pubsub:' .. (job[3] or ''), cjson.encode({command = 'stop-job', job_id = last}))
    end
  elseif waiting or (is_running and overlap == 'skip') then
    return string.format('tick %s is still %s', string.match(last, '[^-]*$'), waiting or 'running')
  end
end

local function why_not(entry, state, overlap)
  if state.paused then return state.paused end
  if state.skip > 0 then
    state.skip = state.skip - 1
    redis.call('HSET', entry, 'skip', state.skip)
    return 'it was asked to skip'
  end
  if state.last and overlap ~= 'allow' then return why_not_beside(state.last, overlap) end
end

-- What an entry has that its jobs have not, or each of its own.
local not_copied = {['jiffy:entry'] = 1, ['jiffy:timing'] = 1, ['jiffy:policy'] = 1, ['jiffy:meta'] = 1, meta = 1,
  status = 1, created_at = 1, enqueued_at = 1}
local sleepers, is_leader_woken = {}, false
local counted_as, counts = {t = 'enqueued', n = 'enqueued', s = 'skipped', m = 'missed'}, {}
-- Returns false where that job is there already: the entry's time was set back by hand.
local function enqueue(id, job_id)
  local job = 'rq:job:' .. job_id
  if redis.call('EXISTS', job) == 1 then return false end
  local flat, has = redis.call('HGETALL', 'rq:job:' .. id), {}
  local fields = {'status', 'queued', 'created_at', now, 'enqueued_at', now}
  local n = #fields
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    has[name] = value
    if not not_copied[name] then
      fields[n + 1], fields[n + 2] = name, value
      n = n + 2
    end
  end
  if not has.data then error('its job has no data', 0) end
  if has['jiffy:meta'] then fields[n + 1], fields[n + 2] = 'meta', has['jiffy:meta'] end
  local queue = 'rq:queue:' .. (has.origin or 'default')
  local is_at_front = has.enqueue_at_front == '1'
  redis.call(is_at_front and 'LPUSH' or 'RPUSH', queue, job_id)
  redis.call('HSET', job, unpack(fields))
  if has.ttl and has.ttl ~= '' then redis.call('EXPIRE', job, has.ttl) end
  sleepers[queue] = has.origin or 'default'
  return true
end

local function move_on(id, coming, has_repeated)
  if coming ~= '' and not has_repeated then
    redis.call('ZADD', KEYS[1], coming, id)
    return
  end
  redis.call('ZREM', KEYS[1], id)
  local timing = redis.call('HGET', 'rq:job:' .. id, 'jiffy:timing')
  if coming == '' then redis.call('HSET', 'jiffy:entry:' .. id, 'done', timing) end
end

local function make(id, seen, coming, most, overlap, lines, ticks)
  if seen ~= '' then
    local score = redis.call('ZSCORE', KEYS[1], id)
    if not score or tonumber(score) ~= tonumber(seen) then return 0 end
  end
  local entry = 'jiffy:entry:' .. id
  local known = redis.call('HMGET', entry, 'paused', 'skip', 'ticks', 'last')
  local state = {paused = why_paused(entry, known[1]), skip = tonumber(known[2] or 0), last = known[4]}
  local made, answers = tonumber(known[3] or 0), {}
  -- What is paused misses nothing.
  for i, line in ipairs(state.paused and lines or {}) do
    lines[i] = 's' .. string.match(line, '^m(.*|)') .. string.sub(state.paused, 1, 150)
  end
  for i, tick in ipairs(ticks) do
    local line, job_id = tick[1], tick[2]
    local is_asked_for = string.sub(line, 1, 1) == 'n'
    local reason = 'it is done'
    if is_asked_for then
      reason = nil
    elseif most == 0 or made < most then
      reason = why_not(entry, state, overlap)
    end
    if reason then
      lines[#lines + 1] = 's' .. string.sub(line, 2) .. string.sub(reason, 1, 150)
    elseif enqueue(id, job_id) then
      lines[#lines + 1] = line
      state.last = job_id
      if is_asked_for then is_leader_woken = true else made = made + 1 end
      redis.call('ZADD', KEYS[2], now_s + FIRST_LOOK_S, id .. ' ' .. job_id .. ' ' .. line)
    else
      reason = 'it is there already'
    end
    answers[i] = reason or ''
  end
  answers[#answers + 1] = state.paused or ''
  if state.last then redis.call('HSET', entry, 'last', state.last, 'ticks', made) end
  if #lines > 0 and redis.call('LPUSH', 'jiffy:ticks:' .. id, unpack(lines)) > HISTORY then
    redis.call('LTRIM', 'jiffy:ticks:' .. id, 0, HISTORY - 1)
  end
  for _, line in ipairs(lines) do
    local what = counted_as[string.sub(line, 1, 1)]
    counts[what] = (counts[what] or 0) + 1
  end
  if seen ~= '' then move_on(id, coming, most > 0 and made >= most) end
  return answers
end

local results = {}
for i = 3, #ARGV do
  -- One entry that is broken must not stop the others; what can fail comes first, as nothing is undone.
  local is_fine, answer = pcall(make, unpack(cjson.decode(ARGV[i])))
  results[#results + 1] = is_fine and answer or (type(answer) == 'table' and answer.err or tostring(answer))
end
for what, count in pairs(counts) do redis.call('HINCRBY', 'jiffy:tick_counts', what, count) end
-- It waits for times of its own, and is to see what becomes of this one.
if is_leader_woken and redis.call('LLEN', 'jiffy:schedule:wake') == 0 then
  redis.call('LPUSH', 'jiffy:schedule:wake', 1)
end
for queue, name in pairs(sleepers) do
  redis.call('SADD', KEYS[3], queue)
  wake(name)
end
return results
