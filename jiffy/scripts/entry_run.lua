-- Account for run times of entries, each of them once: enqueue a job of its own, unless Redis holds a reason against it.
-- KEYS: the schedule in force
-- ARGV: "replaced", then jobs that the next run has replaced, and that have not ended since; or
--       a digest of the caller's schedule ('': whichever is in force), then for each entry a JSON object: id, fields of its
--       jobs, runs: [slot, line of the history, job id or '' if it was missed]; asked (run by hand: its own times do not
--       matter), or else times (their identity), since (the last slot, if Redis does not know it), latest (a later one
--       does not count), next (slot and when it is due, or null), repeat (0: no end), overlap
-- Returns nil if another schedule is in force; else for each entry an error's text, or a list: its last slot before and
--         after, 1 if it is done, 1 if its hash is there, and for each run why it was skipped or ''
--include lib
--include waiting
local HISTORY, FIRST_LOOK_S, LONGEST_REASON, MOST_SKIPPED = 1000, 1, 150, 1000
local ENTRIES = RQ .. 'scheduler:scheduled_jobs'
local WAITS = {queued = 'queued', scheduled = 'waiting to be retried', deferred = 'waiting', ready_to_enqueue = 'waiting',
  rate_limited = 'waiting for a slot'}
local COUNTED = {t = 'enqueued', n = 'enqueued', s = 'skipped', m = 'missed'}

-- One that is over, or could not be shown, is deleted.
local function why_paused(key, raw)
  if not raw then return nil end
  local pause = read_pause(raw)
  if pause then return string.format('paused by %s: %s', pause.who, pause.why) end
  call('HDEL', key, 'paused')
end

-- Why an earlier job keeps the next one from running, or nil; then its id, if the next one is to wait for its end.
local function in_the_way(id, overlap)
  local status, queue, worker = unpack(fields(job_key(id), 'status', 'origin', 'worker_name') or {})
  local is_running = status == 'started'
  queue = queue or ''
  if overlap ~= 'replace' then
    if WAITS[status] or (is_running and overlap == 'skip') then
      return string.format('run %s is still %s', string.match(id, '^.*%-(.*)') or id, WAITS[status] or 'running')
    end
    return nil, is_running and id
  end
  if is_running then
    call('HSET', job_key(id), 'jiffy:replaced', 1)  -- its worker may be away, and the job begin anew: it is looked at again
    call('PUBLISH', RQ .. 'pubsub:' .. (worker or ''), cjson.encode({command = 'stop-job', job_id = id}))
  elseif WAITS[status] then
    try('LREM', RQ .. 'queue:' .. queue, 0, id)
    try('ZREM', RQ .. 'scheduled:' .. queue, id)
    try('ZREM', RQ .. 'deferred:' .. queue, id)
    cancel(queue, id, 'the next run replaced it')
  end
end

if ARGV[1] == 'replaced' then
  for i = 2, #ARGV do in_the_way(ARGV[i], 'replace') end
  return nil
end
local in_force = try('GET', KEYS[1])
if ARGV[1] ~= '' and not (type(in_force) == 'string' and string.find(in_force, ARGV[1], 1, true)) then return nil end

-- Write a job and put it on its queue, or behind one that runs, however that ends.
local function enqueue_run(entry, id, behind)
  local key, queue, flat = job_key(id), entry.fields.origin, {'created_at', date(), 'status', 'deferred'}
  for name, value in pairs(entry.fields) do
    flat[#flat + 1], flat[#flat + 2] = name, value
  end
  -- A job whose field names a waiting job reports its end at once; until a job waits, it names itself.
  if entry.overlap == 'queue one' then flat[#flat + 1], flat[#flat + 2] = 'jiffy:join', id end
  call('HSET', key, unpack(flat))
  if behind then
    call_own('ZADD', RQ .. 'deferred:' .. queue, NOW, id)
    call_own('ZADD', OWN .. 'joins', NOW, id)
    call_own('HSET', OWN .. 'join:' .. id, 'queue', queue, 'needs', 'end', 'count', 1)
    call_own('ZADD', OWN .. 'pending:' .. id, 0, behind)
    call('HSET', job_key(behind), 'jiffy:join', id)
  elseif not enqueue(queue, id, tonumber(entry.fields.enqueue_at_front) == 1) then
    call('DEL', key)
    error('the key of its queue is of another type', 0)
  end
end

local function account_for(entry)
  local id, most = entry.id, entry['repeat'] or 0
  local key, history = OWN .. 'entry:' .. id, OWN .. 'ticks:' .. id
  for name, kind in pairs({[key] = 'hash', [history] = 'list'}) do
    local found = call('TYPE', name).ok
    if found ~= kind and found ~= 'none' then call('DEL', name) end
  end
  local paused, skip, last, ahead, asked, times, before, counted, made, done =
    unpack(call('HMGET', key, 'paused', 'skip', 'last', 'ahead', 'asked', 'times', 'slot', 'counted', 'ticks', 'done'))
  paused, skip, before = why_paused(key, paused), tonumber(skip) or 0, tonumber(before)
  if not (skip <= MOST_SKIPPED) then skip = 0 end
  -- Missing, or odd; or Redis' clock was ahead of its time.
  if not (before and before >= 0 and before <= (entry.latest or before)) then before, times = 0, nil end
  made = counted == entry.times and tonumber(made) or 0
  local slot, reasons = before, {}

  local function record(line, reason)
    if reason then line = 's' .. string.match(line, '^.(.*|)') .. string.sub(reason, 1, LONGEST_REASON) end
    if call('LPUSH', history, line) > HISTORY then call('LTRIM', history, 0, HISTORY - 1) end
    try('HINCRBY', OWN .. 'tick_counts', COUNTED[string.sub(line, 1, 1)], 1)
  end
  -- Why there is to be no job, or nil; then the job behind which it is to wait.
  local function why_not()
    if most > 0 and made >= most then return 'it is done' end
    if paused then return paused end
    if skip > 0 then
      skip = skip - 1
      call('HSET', key, 'skip', skip)
      return 'it was asked to skip'
    end
    local behind
    -- The job of the last run, the one behind which that waits, and the last one that was run by hand.
    for _, earlier in ipairs(entry.overlap == 'allow' and {} or {last or '', ahead or '', asked or ''}) do
      local reason, running = in_the_way(earlier, entry.overlap)
      if reason then return reason end
      behind = behind or running
    end
    return nil, behind
  end

  if not entry.asked then
    if times ~= entry.times then slot = math.max(slot, entry.since) end
    if done and (most == 0 or made < most) then  -- its repeat was used up, and is not any more
      slot = math.max(slot, math.floor(tonumber(NOW)))
      call('HDEL', key, 'done')
    end
    if most == 0 and counted then call('HDEL', key, 'counted', 'ticks') end
  end
  for i, run in ipairs(entry.runs) do
    local run_slot, line, job_id = unpack(run)
    local is_missed, reason, behind = job_id == '', nil, nil
    if entry.asked or run_slot > (is_missed and before or slot) then
      if is_missed then
        reason = paused  -- what is paused misses nothing
      elseif not entry.asked then
        reason, behind = why_not()
      end
      if not (reason or is_missed) and call('EXISTS', job_key(job_id)) == 1 then
        reason = 'there is a job with its id, ' .. job_id
      end
      if not (reason or is_missed) then
        enqueue_run(entry, job_id, behind)
        try('ZADD', OWN .. 'ticks_open', NOW + FIRST_LOOK_S, id .. ' ' .. job_id .. ' ' .. line)
        if entry.asked then
          call('HSET', key, 'asked', job_id)
        else
          made, last, ahead = made + 1, job_id, behind or ''
          call('HSET', key, 'last', last, 'ahead', ahead)
          if most > 0 then call('HSET', key, 'ticks', made, 'counted', entry.times) end
        end
      end
      record(line, reason)
      if not entry.asked then
        slot = math.max(slot, run_slot)
        call('HSET', key, 'slot', string.format('%.0f', slot), 'times', entry.times)
      end
    end
    reasons[i] = reason or ''
  end

  local is_done = most > 0 and made >= most
  if entry.asked then
    if try('LLEN', OWN .. 'schedule:wake') == 0 then call('LPUSH', OWN .. 'schedule:wake', 1) end
    return {before, slot, 0, 1, unpack(reasons)}
  end
  call('HSET', key, 'slot', string.format('%.0f', slot), 'times', entry.times)
  call_own('SADD', OWN .. 'entries', id)  -- by which a later release knows what it no longer has
  if is_done or entry.next == cjson.null then
    call_own('ZREM', ENTRIES, id)
    if is_done then call('HSET', key, 'done', entry.times) end
  elseif entry.next[1] > slot then
    call('HSET', key, 'next', string.format('%.0f', entry.next[1]))
    call_own('ZADD', ENTRIES, entry.next[2], id)
  end
  return {before, slot, is_done and 1 or 0, call('EXISTS', job_key(id)), unpack(reasons)}
end

local answers = {}
for i = 2, #ARGV do
  -- An entry that is broken must not stop the others.
  local is_fine, answer = pcall(account_for, cjson.decode(ARGV[i]))
  answers[#answers + 1] = is_fine and answer or (type(answer) == 'table' and answer.err or tostring(answer))
end
return answers
