-- Put dependents on their queues that a process has made ready to be enqueued and, since it died, has not enqueued.
-- KEYS: the queues
-- ARGV: how many at most from each queue
-- Returns how many
--include put
local moved = 0
for _, queue in ipairs(KEYS) do
  local name = string.sub(queue, 10)
  for _, id in ipairs(redis.call('ZRANGE', 'rq:ready:' .. name, 0, ARGV[1] - 1)) do
    pcall(put_ready, id, name)
    moved = moved + 1
  end
end
return moved
