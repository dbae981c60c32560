-- Read some fields of many hashes without moving what is large.
-- KEYS: the hashes
-- ARGV: the most bytes to move of one value, then the names of the fields; ':name' is any member of the set KEY:name
-- Returns a list per hash: a field's value, nil, or its size if over the most; for no hash, the error's text
local most = tonumber(ARGV[1])
local hashes = {}
for i, key in ipairs(KEYS) do
  local values = {}
  for j = 2, #ARGV do
    local is_set = string.sub(ARGV[j], 1, 1) == ':'
    local size = not is_set and redis.pcall('HSTRLEN', key, ARGV[j])
    if is_set then
      local member = redis.pcall('SRANDMEMBER', key .. ARGV[j])
      values[j - 1] = type(member) == 'string' and #member <= most and member
    elseif type(size) == 'table' then
      values = size.err
      break
    elseif size == 0 then
      values[j - 1] = false
    elseif size > most then
      values[j - 1] = size
    else
      values[j - 1] = redis.call('HGET', key, ARGV[j])
    end
  end
  hashes[i] = values
end
return hashes
