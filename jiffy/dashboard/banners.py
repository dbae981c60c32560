"""What is wrong, each with its remedy: shown above every page."""

from collections.abc import Iterator
from typing import NamedTuple

from jiffy.control import pauses
from jiffy.control.read import Census

_MOST_NAMED = 5


class Banner(NamedTuple):
    """One thing that is wrong; `command` or `href` is what to do about it."""

    name: str  # for tests and links: no-workers
    text: str
    remedy: str = ""
    command: str = ""
    endpoint: str = ""  # of the page that shows more


def banners(census: Census) -> list[Banner]:
    """What is wrong now, the worst first."""
    return [
        banner
        for look in (_on_keys, _on_workers, _on_memory, _on_scheduler, _on_pauses, _on_releases)
        for banner in look(census)
    ]


def _on_keys(census: Census) -> Iterator[Banner]:
    for problem in census.problems:
        key = problem.partition(" ")[0]
        yield Banner("odd-key", f"{problem}.",
                     "Neither RQ nor Jiffy wrote that: move it out of the way with",
                     f"redis-cli rename {key} odd:{key}")  # fmt: skip


def _on_workers(census: Census) -> Iterator[Banner]:
    waiting = [queue for queue in census.queues if queue.counts["queued"]]
    unheard = [f"“{queue.name[:60]}”" for queue in waiting if not queue.is_heard]
    if census.is_suspended:
        yield Banner("suspended", "All workers are suspended.",
                     "They start no jobs until you run", "rq resume")  # fmt: skip
    if waiting and not census.workers:
        yield Banner("no-workers", "No workers are running.",
                     "Jobs are waiting: start a worker with",
                     "python -m jiffy worker")  # fmt: skip
    elif unheard:
        more = len(unheard) - _MOST_NAMED
        names = ", ".join(unheard[:_MOST_NAMED]) + (f" and {more} more queues" if more > 0 else "")
        yield Banner("unheard", f"No worker listens to {names}.",
                     "Jobs are waiting there: check the name, or start one, such as",
                     f"python -m jiffy worker {unheard[0][1:-1]}", "queues.queues")  # fmt: skip


def _on_memory(census: Census) -> Iterator[Banner]:
    memory = census.memory
    if memory.is_nearly_full:
        yield Banner("memory", f"Redis has used {memory.used / memory.most:.0%} of its memory.",
                     "When it is full, no job can be enqueued: raise its limit, let results expire"
                     " sooner, or delete failed jobs.", "", "system.system")  # fmt: skip
    if memory.evicts:
        yield Banner("evicts", "Redis deletes jobs when its memory is full.",
                     f"Its policy is {memory.policy}; set it to noeviction:",
                     "redis-cli config set maxmemory-policy noeviction")  # fmt: skip
    if memory.is_kept is False:
        yield Banner("forgetful", "A restart of Redis loses every job.",
                     "It saves nothing to disk; switch on its append-only file:",
                     "redis-cli config set appendonly yes")  # fmt: skip


def _on_scheduler(census: Census) -> Iterator[Banner]:
    if census.scheduler == "away":
        yield Banner("no-scheduler", "No scheduler is running.",
                     "The schedule enqueues nothing until you start one:",
                     "python -m jiffy scheduler")  # fmt: skip


def _on_pauses(census: Census) -> Iterator[Banner]:
    for pause in pauses.in_force(census.paused)[:_MOST_NAMED]:
        until = f", until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until else ""
        yield Banner("paused", f"The {pause.kind} {pause.name[:60]} is paused.",
                     f"By {pause.who}{until}: {pause.why}. Resume it with",
                     f"python -m jiffy resume {pause.kind} {pause.name[:60]}",
                     "queues.queues")  # fmt: skip


def _on_releases(census: Census) -> Iterator[Banner]:
    if len(census.releases) > 1:
        named = ", ".join(f"{number:,} on {release[:12]}" for release, number
                          in sorted(census.releases.items())[:_MOST_NAMED])  # fmt: skip
        yield Banner("releases", f"Workers run {len(census.releases)} releases: {named}.",
                     "During a deploy that passes; if it lasts, restart the older ones.",
                     "", "workers.workers")  # fmt: skip
