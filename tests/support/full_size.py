"""A Redis as a busy shop has it after months: millions of jobs, hundreds of queues and workers."""

import base64

from rq.utils import now, utcformat

from jiffy import clock, keys

QUEUES, WORKERS = 300, 500
JOBS = {"queued": 1_000_000, "finished": 1_000_000, "failed": 200_000}
_AT_A_TIME = 20_000
_WHOLE = 20_000  # of each state, so many of the oldest and of the newest jobs have a hash
_ERROR = "Traceback (most recent call last):\n  File shop.py\nValueError: no card"

# ARGV: prefix of jobs, of results, of the state's lists; state, first, count,
# number of queues, epoch, the same as text, error, whether these jobs have hashes
_PLANT = """
local job, results, list, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local first, count, queues, now = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
for n = first, first + count - 1 do
  local queue, id = string.format('queue-%03d', n % queues), string.format('%s-%07d', state, n)
  if state == 'queued' then redis.call('RPUSH', list .. queue, id)
  else redis.call('ZADD', list .. queue, tonumber(now) + n, id) end
  if ARGV[11] == '1' then
    redis.call('HSET', job .. id, 'status', state, 'origin', queue, 'created_at', ARGV[9],
      'enqueued_at', ARGV[9], 'description', 'shop.charge()',
      'data', '["jobs.shop.charge", null, [' .. n .. '], {}]')
    if state ~= 'queued' then
      redis.call('HSET', job .. id, 'started_at', ARGV[9], 'ended_at', ARGV[9])
    end
  end
  if state == 'failed' then
    redis.call('XADD', results .. id, '*', 'type', 2, 'exc_string', ARGV[10])
  end
end
"""


def plant(redis, jobs=JOBS, queues=QUEUES, workers=WORKERS):
    """Fill an empty Redis, by scripts: it takes about half a minute."""
    put, moment = redis.register_script(_PLANT), utcformat(now())
    error = base64.b64encode(_ERROR.encode())
    for number in range(queues):
        redis.sadd(keys.QUEUES, keys.queue(f"queue-{number:03}"))
    for state, total in jobs.items():
        prefix = keys.queue("") if state == "queued" else keys.REGISTRIES[state]
        for first in range(0, total, _AT_A_TIME):
            known = [keys.job(""), keys.results(""), prefix, state]
            rest = [first, min(_AT_A_TIME, total - first), queues, clock.wall(), moment, error]
            is_whole = first < _WHOLE or first + _AT_A_TIME > total - _WHOLE
            put(keys=[keys.NOTHING], args=[*known, *rest, int(is_whole)])
    with redis.pipeline(transaction=False) as pipe:
        for number in range(workers):
            name, queue = f"worker.{number}-1", f"queue-{number % queues:03}"
            job_id = f"running-{number}"
            fields = {"state": "busy", "queues": queue, "birth": moment, "hostname": "host",
                      "pid": number + 1, "last_heartbeat": moment}  # fmt: skip
            pipe.sadd(keys.WORKERS, keys.worker(name))
            pipe.sadd(keys.workers_of(queue), keys.worker(name))
            pipe.hset(keys.worker(name), mapping=fields)
            pipe.sadd(keys.executions(name), f"{job_id}:execution")
            pipe.zadd(keys.REGISTRIES["started"] + queue, {f"{job_id}:execution": 9e9})
            known = {"status": "started", "origin": queue, "description": "shop.charge()",
                     "enqueued_at": moment, "started_at": moment, "timeout": 180,
                     "data": '["jobs.shop.charge", null, [1], {}]'}  # fmt: skip
            pipe.hset(keys.job(job_id), mapping=known)
        pipe.execute()
