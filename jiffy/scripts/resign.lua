-- Let go of the lead if it is the caller's own, and wake one of those that wait for it.
-- KEYS: the leader, the list that the others wait at
-- ARGV: the caller's token, how many ms the token of those that wait lasts
-- Returns 1 if it was the caller's own, else 0
if not string.find(redis.call('GET', KEYS[1]) or '', ARGV[1], 1, true) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('RPUSH', KEYS[2], 1)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
