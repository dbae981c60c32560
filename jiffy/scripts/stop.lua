-- Tell the worker that runs a job to stop it.  Mirrors rq.command.send_stop_job_command.
-- KEYS: the job
-- ARGV: the channel without the worker's name, the command
-- Returns the job's status ('' for no job), its worker's name, and how many heard the command (-1: it was not sent)

if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {'', '', -1} end
local status = redis.call('HGET', KEYS[1], 'status') or 'unknown'
local worker = redis.call('HGET', KEYS[1], 'worker_name') or ''
if status ~= 'started' then return {status, worker, -1} end
return {status, worker, redis.call('PUBLISH', ARGV[1] .. worker, ARGV[2])}
