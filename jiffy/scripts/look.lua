-- Wake a sleeping worker where a producer that knows nothing of us has pushed a job.
-- KEYS: the queues
-- ARGV: none
-- Returns nothing

for _, queue in ipairs(KEYS) do
  local length = redis.pcall('LLEN', queue)
  if type(length) == 'number' and length > 0 then
    local wake = 'jiffy:wake:' .. string.sub(queue, 10)
    if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, 1) end
  end
end
