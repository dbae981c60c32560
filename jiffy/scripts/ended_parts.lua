-- Parts of workflows that have ended, or are gone, without one of our workers noting it: find them, or end them.
-- KEYS: those that wait
-- ARGV: "find", how many of those to look at, at how many others in all, at how many bytes, in how many s to look again;
--       or "end", then for each that has ended: the job that waits, the other ('': its producer), the other's status, its
--       result and its error as JSON
-- Returns for "find" [job that waits, the other ('': its producer), status or 'gone', its latest result or error as RQ
--         wrote it, or why it was canceled]; for "end" whether there is more to do at once (0 or 1)
--include lib
if ARGV[1] == 'end' then
--include waiting
  -- Each on its own: what cannot be released now must not keep back the others.
  local refused
  for i = 2, #ARGV, 5 do
    local is_noted, why = pcall(part_ended, unpack(ARGV, i, i + 4))
    if not is_noted then refused = why end
  end
  return refused and error(refused) or is_postponed and 1 or 0
end

local now, found = tonumber(time[1]), {}
local members_left, bytes_left = tonumber(ARGV[3]), tonumber(ARGV[4])
local over = {finished = true, failed = true, stopped = true, canceled = true}

-- Of what is too large for a job to be given, enough to see that (in base64, whole groups): a supervisor reads it.
local function cut(value) return string.sub(value, 1, 7000000) end

local function latest_of(id, status)
  if status == 'canceled' then return cut(try('HGET', RQ .. 'job:' .. id, 'jiffy:reason') or '') end
  local entries = try('XREVRANGE', RQ .. 'results:' .. id, '+', '-', 'COUNT', 1)
  local fields = entries[1] and entries[1][2] or {}
  for i = 1, #fields, 2 do
    if fields[i] == 'return_value' or fields[i] == 'exc_string' then return cut(fields[i + 1]) end
  end
  return ''
end

local function look_at(waiting, member, score, is_open)
  if member == '' then
    if -score < now then found[#found + 1] = {waiting, '', 'gone', ''} end
    return
  end
  local status = try('HGET', RQ .. 'job:' .. member, 'status')
  local is_gone = type(status) ~= 'string'
  -- As long as its producer is at it, a part may be one that is not written yet.
  if (is_gone and is_open) or not (is_gone or over[status]) then return end
  local latest = is_gone and '' or latest_of(member, status)
  bytes_left = bytes_left - #latest
  found[#found + 1] = {waiting, member, is_gone and 'gone' or status, latest}
end

local function look(waiting)
  local join, pending = OWN .. 'join:' .. waiting, OWN .. 'pending:' .. waiting
  local queue = call_own('HGET', join, 'queue')
  if not (queue and try('ZSCORE', RQ .. 'deferred:' .. queue, waiting)) then  -- it was canceled or deleted: it waits no more
    call('DEL', join, pending)
    call('ZREM', KEYS[1], waiting)
    return
  end
  local is_open = call('ZSCORE', pending, '')
  -- Its queue was something else in Redis when the last one ended: it may be released now.
  if call('ZCARD', pending) == 0 then found[#found + 1] = {waiting, '', 'finished', ''} end
  local from = tonumber(call('HGET', join, 'looked') or 0)
  local members = call('ZRANGE', pending, from, from + members_left - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    if bytes_left <= 0 then break end
    look_at(waiting, members[i], tonumber(members[i + 1]), is_open)
  end
  local is_end = #members < 2 * members_left
  if from > 0 or not is_end then
    call('HSET', join, 'looked', is_end and 0 or from + members_left)
  end
  members_left = members_left - #members / 2
end

-- Since these were looked at, Redis' clock was set back.
for _, waiting in ipairs(call_own('ZRANGEBYSCORE', KEYS[1], now + 60, '+inf', 'LIMIT', 0, ARGV[2])) do
  call('ZADD', KEYS[1], now, waiting)
end
for _, waiting in ipairs(call_own('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  if members_left <= 0 or bytes_left <= 0 then break end
  call('ZADD', KEYS[1], now + ARGV[5], waiting)
  pcall(look, waiting)  -- one that is odd keeps no other waiting
end
return found
