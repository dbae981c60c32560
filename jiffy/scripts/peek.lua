-- Read some fields of many hashes without moving what is large.
-- KEYS: the hashes
-- ARGV: the most bytes to move of one value, then the names of the fields
-- Returns a list per hash: a field's value, nil, or its size if over the most; for no hash, the error's text
local most = tonumber(ARGV[1])
local hashes = {}
for i, key in ipairs(KEYS) do
  local values = {}
  for j = 2, #ARGV do
    local size = redis.pcall('HSTRLEN', key, ARGV[j])
    if type(size) == 'table' then
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
