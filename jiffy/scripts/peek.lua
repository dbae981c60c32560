-- Read some fields of many hashes without moving what is large.
-- KEYS: the hashes
-- ARGV: the most bytes to move of one value, then the names of the fields; '?name' is measured before it is read, since it
--       may be large; ':name' is any member of the set KEY:name
-- Returns a list per hash: a field's value, nil, or its size if over the most; for no hash, the error's text
local most = tonumber(ARGV[1])
local hashes = {}
for i, key in ipairs(KEYS) do
  local values, names, places = {}, {}, {}
  for j = 2, #ARGV do
    local kind, name = string.match(ARGV[j], '^([?:]?)(.*)')
    local size = kind == '?' and redis.pcall('HSTRLEN', key, name)
    values[j - 1] = false
    if kind == ':' then
      local member = redis.pcall('SRANDMEMBER', key .. ARGV[j])
      values[j - 1] = type(member) == 'string' and #member <= most and member
    elseif type(size) == 'number' and size > most then
      values[j - 1] = size
    else
      names[#names + 1], places[#places + 1] = name, j - 1
    end
  end
  local found = redis.pcall('HMGET', key, unpack(names))
  for j, value in ipairs(found) do
    if value and #value > 0 then values[places[j]] = #value > most and #value or value end
  end
  hashes[i] = found.err or values
end
return hashes
