-- Give back what a worker took and has not begun, while it still runs something of the same batch.
-- KEYS: what the worker holds, its executions
-- ARGV: the batch, the position of the job that runs (-1: none does)
-- Returns how many went back to the front of their queues
--include wake
local raw = redis.call('GET', KEYS[1])
local held, holds, back = raw and cjson.decode(raw) or {}, {}, {}
for _, h in ipairs(held) do
  local is_of_batch = string.sub(h[3], 17, 24) == ARGV[1]
  local is_after = is_of_batch and tonumber(string.sub(h[3], 25), 16) > tonumber(ARGV[2])
  table.insert(is_after and back or holds, h)
end
local count = 0
for i = #back, 1, -1 do
  local queue, id, execution = back[i][1], back[i][2], back[i][3]
  if redis.call('ZREM', 'rq:wip:' .. queue, id .. ':' .. execution) == 1 then
    redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
    redis.call('ZREM', 'rq:executions:' .. id, execution)
    redis.call('SREM', KEYS[2], id .. ':' .. execution)
    redis.call('LPUSH', 'rq:queue:' .. queue, id)
    if redis.call('TYPE', 'rq:job:' .. id).ok == 'hash' then
      redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
    end
    wake(queue)
    count = count + 1
  end
end
if count > 0 then
  if #holds > 0 then redis.call('SET', KEYS[1], cjson.encode(holds)) else redis.call('DEL', KEYS[1]) end
end
return count
