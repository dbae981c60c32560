"""Every Redis key that we name, and whose it is.

RQ's begin with RQ_KEY_PREFIX ("rq" if that is not set); if it is set, ours do so too.
"""

from collections.abc import Callable

from rq.defaults import RQ_KEY_PREFIX

RQ = f"{RQ_KEY_PREFIX}:"
OWN = "jiffy:" if RQ_KEY_PREFIX == "rq" else f"{RQ}jiffy:"


def _named(prefix: str) -> Callable[[str], str]:
    """A function from a name to its key."""
    return prefix.__add__


# RQ's (rq/job.py, results.py, queue.py, worker_registration.py, registry.py)
QUEUES = f"{RQ}queues"
WORKERS = f"{RQ}workers"
WORKER = f"{RQ}worker:"  # followed by its name
SUSPENDED = f"{RQ}suspended"
REGISTRIES = {  # status -> prefix of the sorted set of the ids of such jobs, one for each queue
    "started": f"{RQ}wip:",
    "finished": f"{RQ}finished:",
    "failed": f"{RQ}failed:",
    "scheduled": f"{RQ}scheduled:",
    "deferred": f"{RQ}deferred:",
    "canceled": f"{RQ}canceled:",
}
job = _named(f"{RQ}job:")
results = _named(f"{RQ}results:")
queue = _named(f"{RQ}queue:")
worker = _named(WORKER)
workers_of = _named(f"{WORKERS}:")  # set: the workers that listen to a queue; some may be dead


def jobs_in(state: str, queue_name: str) -> str:
    """The list (queued) or sorted set of a queue's jobs in one state."""
    return REGISTRIES.get(state, queue("")) + queue_name


def dependents(job_id: str) -> str:
    """A set: the jobs that depend on one."""
    return f"{job(job_id)}:dependents"


def executions(worker_name: str) -> str:
    """A set of job:execution: what a worker runs."""
    return f"{worker(worker_name)}:executions"


# rq-scheduler's (rq_scheduler/scheduler.py), which has no prefix of its own
ENTRIES = f"{RQ}scheduler:scheduled_jobs"
STOCK_LOCK = f"{RQ}scheduler_lock"  # while it is held, stock rq-schedulers enqueue nothing

# Ours, of workers
LEASES = f"{OWN}leases"  # sorted set: worker name -> until when (Redis' clock) it is alive
LAST_SWEEP = f"{OWN}last_sweep"  # when (Redis' clock) a supervisor last looked for dead workers
EXPIRING = f"{OWN}expiring"  # sorted set: job with `expires`, not started -> when to look at it
TODO_TRIES = f"{OWN}todo:tries"  # hash: how often each of what `todo` has was started
JOINS = f"{OWN}joins"  # sorted set: job that waits for others -> when (Redis' clock) to look
PAUSED = f"{OWN}paused"  # hash: queue:NAME or func:PATH -> JSON: who, why, since, until
NOTHING = f"{OWN}nothing"  # never exists: each script names at least one key
held = _named(f"{OWN}held:")  # hash: job:execution -> queue, of what a worker holds
todo = _named(f"{OWN}todo:")  # sorted set by due time: what a queue's workers do besides its jobs
wake = _named(f"{OWN}wake:")  # list: a token for each sleeping worker that must look at a queue
join = _named(f"{OWN}join:")  # hash: how a waiting job is released, and the others' results
pending = _named(f"{OWN}pending:")  # sorted set by number: what a job still waits for
parked = _named(f"{OWN}parked:")  # sorted set: the jobs of a paused function, first come first
history = _named(f"{OWN}history:")  # see history.py
unique = _named(f"{OWN}unique:")  # the job that stands for a unique call
sent = _named(f"{OWN}sent:")  # for a minute: what a call has returned, if its job may be gone

# Ours, of the dashboard
IGNORED = f"{OWN}ignored"  # hash: group of failures -> JSON: who ignores it, since, on releases
seen_failures = _named(f"{OWN}failures:")  # a group -> JSON: since when, and on which releases
audit = _named(f"{OWN}audit:")  # stream: who did what, by kind; see control/audit.py
attempts = _named(f"{OWN}attempts:")  # how many logins were tried; expires an hour after a pause
SESSIONS = f"{OWN}sessions"  # hash: user -> a random mark, deleted when that user logs out

# Ours, of the schedule; see "The schedule" in docs/internals.md
LEADER = f"{OWN}leader"  # JSON: which scheduler looked last; expires when all are dead
SCHEDULE_WAKE = f"{OWN}schedule:wake"  # list: a token for a scheduler: the schedule has changed
DECLARED = f"{OWN}entries"  # set: the ids of the entries in SCHEDULE
IN_FORCE = f"{OWN}table"  # JSON: which SCHEDULE is in force (a digest), and since when
TICK_COUNTS = f"{OWN}tick_counts"  # hash: how many runs were enqueued, skipped and missed so far
OPEN_TICKS = f"{OWN}ticks_open"  # sorted set: runs whose job has not ended -> when to look again
entry_state = _named(f"{OWN}entry:")  # hash that survives deploys: pause, skips, count
ticks = _named(f"{OWN}ticks:")  # list: an entry's history, newest first

# Fields of ours in RQ's hash of a job: they live and die with the job, and RQ ignores them.
PROGRESS_FIELD = "jiffy:progress"
LOG_FIELD = "jiffy:log"  # what its code has logged, in its last attempt that logged; see joblog.py
PEAK_FIELD = "jiffy:peak"  # the most memory that the process of its last attempt had in RAM
CAUSES_FIELD = "jiffy:causes"  # a line for each time that its process died
RETRY_FIELD = "jiffy:retry"  # what RQ cannot express of a Retry of ours
EXPIRES_FIELD = "jiffy:expires"  # after how many seconds in its queue it is canceled
REASON_FIELD = "jiffy:reason"  # why it was canceled, or is to be retried
ISOLATE_FIELD = "jiffy:isolate"  # "yes" in a job that runs in a process of its own
ALONE_FIELD = "jiffy:alone"  # in a job that may have killed a worker: the execution, or 1
RESCUE_FIELD = "jiffy:rescue"  # "no" in a job that must never start twice; see `Options.rescue`
PARKED_FIELD = "jiffy:parked"  # the paused function that a job waits for
RELEASE_FIELD = "jiffy:release"  # in a worker's hash, and in a failed job's
DYNO_FIELD = "jiffy:dyno"  # in a worker's hash, with the next two: where it runs
MEMORY_FIELD = "jiffy:memory"  # the bytes that its child has in RAM
QUIET_FIELD = "jiffy:quiet"  # "yes" while it is to start no jobs
TOKEN_FIELD = "jiffy:token"  # in a worker's hash: how its executions begin
MASKED_FIELD = "jiffy:masked"  # which positional arguments are secrets
JOIN_FIELD = "jiffy:join"  # the job that waits for this one, in a chain or group
PARTS_FIELD = "jiffy:parts"  # in a job that waits for others: the first of them, for its page
REPLACED_FIELD = "jiffy:replaced"  # in a run in whose place the next one is: it is stopped
TICK_OF_FIELD = "jiffy:tick_of"  # in a job that an entry enqueued: the entry's name
# ... and in the hash of an entry in SCHEDULE: its definition, its name and times in words, and the
# hash of its jobs, as JSON.
ENTRY_FIELD = "jiffy:entry"
POLICY_FIELD = "jiffy:policy"
RUN_FIELD = "jiffy:run"
