-- Read some fields of many hashes without moving what is large.
-- KEYS: the hashes
-- ARGV: the most bytes to move of one value, then the names of the fields; '?name' is measured before it is read, since it
--       may be large; '#n' before them: of jobs, only the n to which something happened last; ':name' is any member of the
--       set KEY:name; '!name' is in the newest entry of a job's results
-- Returns a list per hash: a field's value, nil, or its size if over the most; for no hash, the error's text
local RQ, try, most = '@RQ@', redis.pcall, tonumber(ARGV[1])
local hashes = {}

local function in_newest_result(job, name)
  local entries = try('XREVRANGE', RQ .. 'results:' .. string.sub(job, #RQ + 5), '+', '-', 'COUNT', 1)
  local flat = entries[1] and entries[1][2] or {}
  for i = 1, #flat, 2 do
    if flat[i] == name then return flat[i + 1] end
  end
end

-- When something last happened to a job, as RQ writes it; what is no hash is always shown.
local ENDED = {finished = true, failed = true, stopped = true, canceled = true}
local function latest(key)
  local moments, found = try('HMGET', key, 'ended_at', 'started_at', 'enqueued_at', 'created_at', 'status'), ''
  for i = 1, 4 do
    local moment = moments[i] or ''
    -- One that is tried again was enqueued after it had ended.
    if found == '' or (moment > found and not ENDED[moments[5]]) then found = moment end
  end
  return moments.err and '~' or found
end

local newest, left_out, first = tonumber(string.match(ARGV[2], '^#(%d+)$')), {}, 2
if newest then
  local order, moments = {}, {}
  for i, key in ipairs(KEYS) do order[i], moments[i] = i, latest(key) end
  table.sort(order, function(a, b) return moments[a] > moments[b] end)
  for n = newest + 1, #order do left_out[order[n]] = true end
  first = 3
end

local asked = {}  -- the kind and the name of each field
for j = first, #ARGV do
  local kind, name = string.match(ARGV[j], '^([?:!]?)(.*)')
  asked[j - first + 1] = {kind, name}
end

for i, key in ipairs(KEYS) do
  local values, names, places = {}, {}, {}
  for j, one in ipairs(left_out[i] and {} or asked) do
    local kind, name = one[1], one[2]
    local size = kind == '?' and try('HSTRLEN', key, name)
    values[j] = false
    if kind == ':' or kind == '!' then
      local found = kind == ':' and try('SRANDMEMBER', key .. kind .. name) or kind == '!' and in_newest_result(key, name)
      values[j] = type(found) == 'string' and #found <= most and found
    elseif type(size) == 'number' and size > most then
      values[j] = size
    else
      names[#names + 1], places[#places + 1] = name, j
    end
  end
  local found = #names > 0 and try('HMGET', key, unpack(names)) or {}
  for j, value in ipairs(found) do
    if value and #value > 0 then values[places[j]] = #value > most and #value or value end
  end
  hashes[i] = found.err or values
end
return hashes
