-- The jobs of one's workflow: what they wait for and what waits for them, the nearest first.
-- KEYS: the job's hash
-- ARGV: its id, the most jobs
-- Returns how many more were seen, and for each: id, status (false: it is gone), description (more of it than is shown, so
--         that it is known to be cut short, maybe in a password), the ids of those before it
--         and of those after it
local RQ, OWN, most = '@RQ@', '@OWN@', tonumber(ARGV[2])
local ids, seen, left_out, found = {ARGV[1]}, {[ARGV[1]] = true}, 0, {}

local function add(list, id)
  if id == '' then return end
  list[#list + 1] = id
  if not seen[id] and #ids < most then ids[#ids + 1] = id elseif not seen[id] then left_out = left_out + 1 end
  seen[id] = true
end

local function members(...)
  local answer = redis.pcall(...)
  return answer.err and {} or answer
end

local at = 1
while at <= #ids do
  local id, before, after = ids[at], {}, {}
  local key = RQ .. 'job:' .. id
  local status, description, dependencies, parts, join = unpack(members('HMGET', key, 'status', 'description',
    'dependency_ids', 'jiffy:parts', 'jiffy:join'))
  for other in string.gmatch(string.sub(dependencies or '', 1, 8000), '"([^"]+)"') do add(before, other) end
  for other in string.gmatch(string.sub(parts or '', 1, 8000), '[^,]+') do add(before, other) end
  for _, other in ipairs(members('ZRANGE', OWN .. 'pending:' .. id, 0, most)) do add(before, other) end
  add(after, string.sub(join or '', 1, 300))
  for _, other in ipairs(members('SRANDMEMBER', key .. ':dependents', most)) do add(after, other) end
  found[at] = {id, status and string.sub(status, 1, 50) or false, string.sub(description or '', 1, 1300), before, after}
  at = at + 1
end
return {left_out, found}
