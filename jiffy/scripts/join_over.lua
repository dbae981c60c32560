-- Tell jobs that wait for others which of these are over.
-- KEYS: the jobs that wait
-- ARGV: for each that is over: the job that waits, the other ('': its producer), the other's status, its
--       result and its error as JSON
-- Returns nothing
--include lib
--include release
-- Each on its own: what cannot be released now must not keep back the others.
local refused
for i = 1, #ARGV, 5 do
  local id, member, status, value, error = unpack(ARGV, i, i + 4)
  local is_noted, why = pcall(part_ended, id, member, status, value, error)
  if not is_noted then refused = why end
end
if refused then error(refused) end
