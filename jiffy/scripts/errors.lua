-- Read what went wrong with many jobs without moving what is large.
-- KEYS: the streams of the jobs' results
-- ARGV: the most bytes to move of one error
-- Returns for each stream its latest error as RQ wrote it; nil if there is none, or it is larger.
local errors = {}
for i, key in ipairs(KEYS) do
  errors[i] = false
  local entries = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
  local fields = entries[1] and entries[1][2] or {}
  for j = 1, #fields, 2 do
    if fields[j] == 'exc_string' and #fields[j + 1] <= tonumber(ARGV[1]) then
      errors[i] = fields[j + 1]
    end
  end
end
return errors
