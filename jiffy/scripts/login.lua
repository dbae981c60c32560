-- Count an attempt to log in, unless one must wait before the next; or only see whether one must.
-- KEYS: counts of attempts: by this user from here; then, unless this browser is known, all from here, all by this user.
-- ARGV: for how long a count is kept after its pause (ms); how many attempts by a user, from anywhere, are an attack; the
-- first pause (ms); then for each key: after how many attempts pauses begin to grow, and the longest one (ms); 0: count none.
-- Returns how long to wait (ms); 0: the attempt may be made.
local KEPT, wait = tonumber(ARGV[1]), 0
local function tried(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and #found < 10 and tonumber(string.match(found, '^%d+$')) or 0
end
-- A count expires when it has been kept for so long after its pause: until then, what is left is more than that.
for i, key in ipairs(KEYS) do
  local pause = redis.call('PTTL', key) - KEPT
  if pause <= tonumber(ARGV[i * 2 + 3]) then wait = math.max(wait, pause) end  -- or else it is none of ours
end
if wait > 0 or ARGV[#ARGV] == '0' then return wait end
local is_attack = KEYS[3] and tried(KEYS[3]) >= tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local free, longest = tonumber(ARGV[i * 2 + 2]), tonumber(ARGV[i * 2 + 3])
  local count = tried(key) + 1
  if is_attack and i == 1 then free = 1 end
  local pause = count < free and 0 or math.min(longest, ARGV[3] * 2 ^ math.min(count - free, 30))
  redis.call('SET', key, count, 'PX', KEPT + pause)
end
return 0
