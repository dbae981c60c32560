"""Every Redis key that we name, and who owns it.

RQ's begin with RQ_KEY_PREFIX, "rq" if that is not set; ours stand behind it where it is.
"""

from rq.defaults import RQ_KEY_PREFIX

RQ = f"{RQ_KEY_PREFIX}:"
OWN = "jiffy:" if RQ_KEY_PREFIX == "rq" else f"{RQ}jiffy:"

# RQ's (rq/job.py, results.py, queue.py, worker_registration.py, registry.py)
QUEUES = f"{RQ}queues"
WORKERS = f"{RQ}workers"
WORKER = f"{RQ}worker:"  # and its name
SUSPENDED = f"{RQ}suspended"
REGISTRIES = {  # status -> prefix of the sorted set that holds the ids of such jobs, per queue
    "started": f"{RQ}wip:",
    "finished": f"{RQ}finished:",
    "failed": f"{RQ}failed:",
    "scheduled": f"{RQ}scheduled:",
    "deferred": f"{RQ}deferred:",
    "canceled": f"{RQ}canceled:",
}

# rq-scheduler's (rq_scheduler/scheduler.py)
ENTRIES = "rq:scheduler:scheduled_jobs"

# Ours
SESSIONS = f"{OWN}sessions"  # hash: user -> a random mark, gone once that user logs out
LEASES = f"{OWN}leases"  # sorted set: worker name -> until when (Redis' clock) it is alive
STOCK_LOCK = "rq:scheduler_lock"  # while it is held, stock rq-schedulers enqueue nothing
LEADER = f"{OWN}leader"  # JSON: which scheduler leads (who, since, token); gone when it is dead
LEADER_LEFT = f"{OWN}leader:left"  # list: a token for who waits to lead, when a leader has left
SCHEDULE_WAKE = f"{OWN}schedule:wake"  # list: a token for the leader: the schedule has changed
LAST_SWEEP = f"{OWN}last_sweep"  # when (Redis' clock) a supervisor last looked for the dead
EXPIRING = f"{OWN}expiring"  # sorted set: job with `expires`, not begun -> when to look at it
TODO_TRIES = f"{OWN}todo:tries"  # hash: how often each of these has been begun
NOTHING = f"{OWN}nothing"  # a key that is never there: each script names one
JOINS = f"{OWN}joins"  # sorted set: job that waits for others -> when (Redis' clock) to look

# A field of ours in RQ's hash of a job: it lives and dies with the job, and RQ passes over it.
PROGRESS_FIELD = "jiffy:progress"
# The same: what RQ has no words for in a Retry of ours; after how many seconds in
# its queue a job is canceled instead of begun; and why it was canceled, or is to be tried again.
RETRY_FIELD = "jiffy:retry"
EXPIRES_FIELD = "jiffy:expires"
REASON_FIELD = "jiffy:reason"
# The same: "no" in a job that must never begin twice; see `Options.rescue`.
RESCUE_FIELD = "jiffy:rescue"
# The same: which arguments by place are secrets; and the call that wrote the
# job, by which it is known again when it is repeated after a lost reply.
MASKED_FIELD = "jiffy:masked"
CALL_FIELD = "jiffy:call"
# The same: the job that waits for this one, in a chain or group.
JOIN_FIELD = "jiffy:join"
# The same in the hash of an entry that the table made: what the table says of it, and its times.
ENTRY_FIELD = "jiffy:entry"
TIMING_FIELD = "jiffy:timing"
# ... by which other times are told from the same ones in another spelling;
TIMES_FIELD = "jiffy:times"
# ... what becomes of its ticks (jiffy/scheduler/policy.py), with its name and its times in words;
# and the meta that its jobs have, where they have one.
POLICY_FIELD = "jiffy:policy"
TICK_META_FIELD = "jiffy:meta"
# ... and in a job that an entry made: the entry's name.
TICK_OF_FIELD = "jiffy:tick_of"

# What is to last longer than an entry's hash: see "The schedule" in docs/internals.md.
DECLARED = f"{OWN}entries"  # set: the ids of the entries that the table made
IN_FORCE = f"{OWN}table"  # JSON: which table is in force (a digest), and since when
TICK_COUNTS = f"{OWN}tick_counts"  # hash: how many were enqueued, skipped and missed so far
OPEN_TICKS = f"{OWN}ticks_open"  # sorted set: ticks whose job is not over -> when to look again


def entry_state(entry_id: str) -> str:
    """What must survive deploys: is it paused, how many ticks are to be skipped, how many made."""
    return f"{OWN}entry:{entry_id}"


def ticks(entry_id: str) -> str:
    """The history of an entry, newest first."""
    return f"{OWN}ticks:{entry_id}"


def workers_of(queue: str) -> str:
    """The set of the workers that listen to a queue; some may be dead."""
    return f"{WORKERS}:{queue}"


def job(job_id: str) -> str:
    return f"{RQ}job:{job_id}"


def results(job_id: str) -> str:
    return f"{RQ}results:{job_id}"


def queue(name: str) -> str:
    return f"{RQ}queue:{name}"


def worker(name: str) -> str:
    return f"{WORKER}{name}"


def executions(worker_name: str) -> str:
    """What a worker runs: a set of job:execution."""
    return f"{worker(worker_name)}:executions"


def held(worker_name: str) -> str:
    """The jobs that a worker holds now: a hash, job:execution -> queue."""
    return f"{OWN}held:{worker_name}"


def todo(queue_name: str) -> str:
    """What workers of a queue are to do beside its jobs: a sorted set, by when it is due."""
    return f"{OWN}todo:{queue_name}"


def wake(queue_name: str) -> str:
    """A list with a token in it where workers that sleep should look at a queue."""
    return f"{OWN}wake:{queue_name}"


def join(job_id: str) -> str:
    """What a job waits for: a hash of how it is released, and of what the others returned."""
    return f"{OWN}join:{job_id}"


def pending(job_id: str) -> str:
    """Those that a job waits for and that are not over yet: a sorted set, by their number."""
    return f"{OWN}pending:{job_id}"


def unique(digest: str) -> str:
    """The job that a unique call stands for meanwhile."""
    return f"{OWN}unique:{digest}"


def sent(token: str) -> str:
    """What a call has answered: for a minute, where its jobs' hashes may not last that long."""
    return f"{OWN}sent:{token}"
