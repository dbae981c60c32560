"""What is wrong, each with its remedy: shown above every page."""

from typing import NamedTuple

from jiffy.read import Census

_MOST_NAMED = 5


class Banner(NamedTuple):
    """One thing that is wrong; `command` or `href` is what to do about it."""

    name: str  # for tests and links: no-workers
    text: str
    remedy: str = ""
    command: str = ""
    endpoint: str = ""  # of the page that shows more


def banners(census: Census) -> list[Banner]:
    """The worst first."""
    found = []
    waiting = [queue for queue in census.queues if queue.counts["queued"]]
    unheard = [f"“{queue.name[:60]}”" for queue in waiting if not queue.is_heard]
    if census.is_suspended:
        found.append(Banner("suspended", "All workers are suspended.",
                            "They start no jobs until you run", "rq resume"))  # fmt: skip
    if waiting and not census.workers:
        found.append(Banner("no-workers", "No workers are running.",
                            "Jobs are waiting: start a worker with",
                            "python -m jiffy worker"))  # fmt: skip
    elif unheard:
        more = len(unheard) - _MOST_NAMED
        names = ", ".join(unheard[:_MOST_NAMED]) + (f" and {more} more queues" if more > 0 else "")
        found.append(Banner("unheard", f"No worker listens to {names}.",
                            "Jobs are waiting there: check the name, or start one, such as",
                            f"python -m jiffy worker {unheard[0][1:-1]}"))  # fmt: skip
    if census.scheduler == "away":
        found.append(Banner("no-scheduler", "No scheduler is running.",
                            "The schedule enqueues nothing until you start one:",
                            "python -m jiffy scheduler"))  # fmt: skip
    return found
