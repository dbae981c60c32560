"""Every Redis key that we name, and who owns it."""

# RQ's (rq/job.py, results.py, queue.py, worker_registration.py, registry.py)
QUEUES = "rq:queues"
WORKERS = "rq:workers"
WORKER = "rq:worker:"  # and its name
SUSPENDED = "rq:suspended"
REGISTRIES = {  # status -> prefix of the sorted set that holds the ids of such jobs, per queue
    "started": "rq:wip:",
    "finished": "rq:finished:",
    "failed": "rq:failed:",
    "scheduled": "rq:scheduled:",
    "deferred": "rq:deferred:",
    "canceled": "rq:canceled:",
}

# rq-scheduler's (rq_scheduler/scheduler.py)
ENTRIES = "rq:scheduler:scheduled_jobs"

# Ours
LEASES = "jiffy:leases"  # sorted set: worker name -> until when (Redis' clock) it is alive
LAST_SWEEP = "jiffy:last_sweep"  # when (Redis' clock) a supervisor last looked for the dead

# A field of ours in RQ's hash of a job: it lives and dies with the job, and RQ passes over it.
PROGRESS_FIELD = "jiffy:progress"
# The same: "no" in a job that must never begin twice; see `Options.rescue`.
RESCUE_FIELD = "jiffy:rescue"
# The same: which arguments by place are secrets (jiffy/masking.py); and the call that wrote the
# job, by which it is known again when it is repeated after a lost reply.
MASKED_FIELD = "jiffy:masked"
CALL_FIELD = "jiffy:call"
# The same in the hash of an entry that the table made: what the table says of it, and its times.
ENTRY_FIELD = "jiffy:entry"
TIMING_FIELD = "jiffy:timing"
# ... and in a job that an entry made: the entry's name.
TICK_OF_FIELD = "jiffy:tick_of"


def job(job_id: str) -> str:
    return f"rq:job:{job_id}"


def results(job_id: str) -> str:
    return f"rq:results:{job_id}"


def queue(name: str) -> str:
    return f"rq:queue:{name}"


def worker(name: str) -> str:
    return f"{WORKER}{name}"


def held(worker_name: str) -> str:
    """The jobs that a worker holds now: a JSON list of [queue, job id, execution]."""
    return f"jiffy:held:{worker_name}"


def last_turn(worker_name: str) -> str:
    """The prefix of the executions of a worker's last turn."""
    return f"jiffy:turn:{worker_name}"


def rare(worker_name: str) -> str:
    """A list with a token in it where a worker is to settle in RQ's own way before it waits."""
    return f"jiffy:rare:{worker_name}"


def wake(queue_name: str) -> str:
    """A list with a token in it where workers that sleep should look at a queue."""
    return f"jiffy:wake:{queue_name}"


def unique(digest: str) -> str:
    """The job that a unique call stands for meanwhile."""
    return f"jiffy:unique:{digest}"


def sent(token: str) -> str:
    """What a call has answered: for a minute, where its jobs' hashes may not last that long."""
    return f"jiffy:sent:{token}"
