-- Tell a job that waits for others that one of them is over.
-- KEYS: none
-- ARGV: the job that waits, the other ('': its producer), the other's status, its result and its error as JSON, now
-- Returns nothing
--include join
member_is_over(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
