-- Let go of the lead, if it is still one's own, and tell one of those who wait for it.
-- KEYS: the leader, the list that the others wait at
-- ARGV: the leader's own words, how many ms the token lasts
-- Returns 1 if it was one's own, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('RPUSH', KEYS[2], 1)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
