-- Look which entries of the schedule are due, by Redis' own clock: the one that all schedulers share.
-- KEYS: rq-scheduler's entries
-- ARGV: none
-- Returns the time as seconds and microseconds, the next time of what is not yet due, then ids and slots.
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES')
return {time[1], time[2], later[2] or '', due}
