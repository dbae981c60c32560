-- Pauses: queues from which nothing is claimed, and functions whose jobs are parked until they are resumed.
-- Goes with lib.lua and release.lua; expects no KEYS and ARGV of its own.

local LAST = 253402300799  -- a calendar's last second

-- A pause as entries.py has written it; nil if its time has passed, or if it could not be shown: a pause that workers or a
-- scheduler obey must be visible.
local function read_pause(raw)
  local is_json, pause = pcall(cjson.decode, raw)
  if not is_json or type(pause) ~= 'table' then return nil end
  local since, ends = pause.since, pause['until']
  if ends == cjson.null then ends = LAST end
  local is_sound = type(pause.who) == 'string' and type(pause.why) == 'string'
    and type(since) == 'number' and since >= 0 and since <= LAST and type(ends) == 'number' and ends <= LAST
  return is_sound and ends > tonumber(NOW) and pause or nil
end

-- What is paused now: {'queue:NAME' or 'func:PATH' = true}.  All that is not in force is deleted.
local function read_pauses()
  local paused, flat = {}, some_of(OWN .. 'paused')
  for i = 1, #flat, 2 do
    if read_pause(flat[i + 1]) then paused[flat[i]] = true else call('HDEL', OWN .. 'paused', flat[i]) end
  end
  return paused
end

-- The function of a job; nil if its data, a stock producer's, does not say it in plain text: then the worker sees to it.
local function function_of(data) return string.match(data or '', '^%["([^"]+)"') end

-- Let a job that is on no queue wait for its function to be resumed; `place`: the later ones come behind.
local function park(id, path, place)
  own('ZADD', OWN .. 'parked:' .. path, NOW + place * 1e-6, id)
  try('SADD', OWN .. 'parked', path)
  try('HSET', job_key(id), 'status', 'queued', 'jiffy:parked', path)
  -- Others of its rate limit may run meanwhile.
  local limit = (fields(job_key(id), 'rate_limit_key') or {})[1]
  if limit and try('ZREM', RQ .. 'rl:' .. limit .. ':allowed', id) == 1 then fill_slots(limit) end
end

-- Put up to `most` jobs whose function is paused no more back to the front of their queues, in order; return how many.
local function unpark(paused, most)
  local moved = 0
  for _, path in ipairs(try('SRANDMEMBER', OWN .. 'parked', 100)) do
    local parked = OWN .. 'parked:' .. path
    local is_over = moved < most and not paused['func:' .. path]
    for _, id in ipairs(is_over and try('ZREVRANGE', parked, 0, most - moved - 1) or {}) do
      local job = fields(job_key(id), 'status', 'origin', 'jiffy:parked', 'rate_limit_key')
      local is_still = job and job[1] == 'queued' and job[2] and job[3] == path
      local put_back = job and job[4] and enqueue or push
      if not is_still or put_back(job[2], id, true) then
        if is_still then call('HDEL', job_key(id), 'jiffy:parked') end
        call('ZREM', parked, id)
        moved = moved + 1
      end
    end
    if call('EXISTS', parked) == 0 then call('SREM', OWN .. 'parked', path) end
  end
  return moved
end
