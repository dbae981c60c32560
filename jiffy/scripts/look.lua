-- Wake a sleeping worker where a producer that knows nothing of us has pushed a job.
-- KEYS: the queues
-- ARGV: none
-- Returns nothing
--include lib
even_if_full()
for _, queue in ipairs(KEYS) do
  local length = redis.pcall('LLEN', queue)
  if type(length) == 'number' and length > 0 then
    wake(string.sub(queue, #RQ + 7))
  end
end
