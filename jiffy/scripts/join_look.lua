-- Find parts of workflows that have ended, or are gone, without one of our workers noting it.
-- KEYS: those that wait
-- ARGV: how many of these to look at, at how many others in all, at how many bytes, in how many s to look again
-- Returns [job that waits, the other ('': its producer), status or 'gone', its latest result or error as RQ wrote it, or
--         why it was canceled]
--include lib

local now, found = tonumber(redis.call('TIME')[1]), {}
local members_left, bytes_left = tonumber(ARGV[2]), tonumber(ARGV[3])
local over = {finished = true, failed = true, stopped = true, canceled = true}

local function latest_of(id, status)
  if status == 'canceled' then return redis.pcall('HGET', RQ .. 'job:' .. id, 'jiffy:reason') or '' end
  local entries = redis.pcall('XREVRANGE', RQ .. 'results:' .. id, '+', '-', 'COUNT', 1)
  local fields = entries[1] and entries[1][2] or {}
  for i = 1, #fields, 2 do
    if fields[i] == 'return_value' or fields[i] == 'exc_string' then return fields[i + 1] end
  end
  return ''
end

local function look_at(waiting, member, score, is_open)
  if member == '' then
    if -score < now then found[#found + 1] = {waiting, '', 'gone', ''} end
    return
  end
  local status = redis.pcall('HGET', RQ .. 'job:' .. member, 'status')
  local is_gone = type(status) ~= 'string'
  -- As long as its producer is at it, a part may be one that is not written yet.
  if (is_gone and is_open) or not (is_gone or over[status]) then return end
  local latest = is_gone and '' or latest_of(member, status)
  bytes_left = bytes_left - #latest
  found[#found + 1] = {waiting, member, is_gone and 'gone' or status, latest}
end

local function look(waiting)
  local join, pending = OWN .. 'join:' .. waiting, OWN .. 'pending:' .. waiting
  local is_open = redis.call('ZSCORE', pending, '')
  -- Its queue was something else in Redis when the last one ended: it may be released now.
  if redis.call('ZCARD', pending) == 0 then found[#found + 1] = {waiting, '', 'finished', ''} end
  local from = tonumber(redis.call('HGET', join, 'looked') or 0)
  local members = redis.call('ZRANGE', pending, from, from + members_left - 1, 'WITHSCORES')
  for i = 1, #members, 2 do
    if bytes_left <= 0 then break end
    look_at(waiting, members[i], tonumber(members[i + 1]), is_open)
  end
  local is_end = #members < 2 * members_left
  if from > 0 or not is_end then
    redis.call('HSET', join, 'looked', is_end and 0 or from + members_left)
  end
  members_left = members_left - #members / 2
end

for _, waiting in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  if members_left <= 0 or bytes_left <= 0 then break end
  local queue = redis.call('HGET', OWN .. 'join:' .. waiting, 'queue')
  if queue and redis.call('ZSCORE', RQ .. 'deferred:' .. queue, waiting) then
    redis.call('ZADD', KEYS[1], now + ARGV[4], waiting)
    pcall(look, waiting)  -- one that is odd keeps no other waiting
  else  -- it was canceled or deleted: it waits no more
    redis.call('DEL', OWN .. 'join:' .. waiting, OWN .. 'pending:' .. waiting)
    redis.call('ZREM', KEYS[1], waiting)
  end
end
return found
