-- Look which entries of the schedule are due, by Redis' own clock: the one that all schedulers share.
-- KEYS: rq-scheduler's entries, the open ticks
-- ARGV: how many at most; ids of entries to look at instead, due or not
-- Returns the time as seconds and microseconds, the next time of what is not told of here or '', the time when open ticks
--         are to be looked at or '', then for each entry: id, slot, kind and two details: table (timing, policy), other (meta), gone,
--         broken (why)
--include lib
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
local open = redis.pcall('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or ''

local due = {}
if #ARGV == 1 then
  due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
  if #due == 2 * ARGV[1] then later = now end
end
for i = 2, #ARGV do
  local slot = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if slot then
    due[#due + 1] = ARGV[i]
    due[#due + 1] = slot
  end
end

local answer = {time[1], time[2], later, open}
local function tell(...)
  for _, value in ipairs({...}) do answer[#answer + 1] = value end
end
for i = 1, #due, 2 do
  local job = RQ .. 'job:' .. due[i]
  local entry = redis.pcall('HMGET', job, 'jiffy:timing', 'jiffy:policy', 'meta')
  if entry.err then
    tell(due[i], due[i + 1], 'broken', entry.err, '')
  elseif entry[1] then
    tell(due[i], due[i + 1], 'table', entry[1], entry[2] or '')
  elseif redis.call('EXISTS', job) == 1 then
    tell(due[i], due[i + 1], 'other', entry[3] or '', '')
  else
    tell(due[i], due[i + 1], 'gone', '', '')
  end
end
return answer
