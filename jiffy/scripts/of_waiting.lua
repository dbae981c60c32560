-- Defines waiting.lua's functions when they are first needed: a script pays for each function that it defines, and few jobs
-- have anything that waits.  Goes with lib.lua; expects no KEYS and ARGV of its own.
local waiting
local function of_waiting()
  if waiting then return waiting end
--include waiting
  waiting = {enqueue = enqueue, expire = expire, free_slot = free_slot, function_of = function_of, park = park,
    part_ended = part_ended, read_pauses = read_pauses, release_dependents = release_dependents}
  return waiting
end
