"""Jobs with `expires`: cancel what nobody has begun in time, also where no worker comes to take it.

A worker that takes one too late does the same (`turn.lua`).
"""

from typing import Any

from jiffy import keys, log
from jiffy.worker.line import Line, Words

# So many take Redis some 10 ms, in which it is nobody else's; so does looking through so many
# places of queues, where these jobs stand far behind.
_MOST, _MOST_PLACES = 500, 200_000


def look() -> Words:
    """The command that cancels them; its answer is for `tell`."""
    return Line.script("overdue", [keys.EXPIRING], [_MOST, _MOST_PLACES])


def tell(canceled: list[Any]) -> None:
    """Log which were canceled.  Who waits for one, and a chain, find that out by themselves."""
    words = [raw.decode("utf-8", "replace") for raw in canceled]
    for job_id, queue, reason in zip(words[::3], words[1::3], words[2::3], strict=True):
        log.event("job.expired", job=job_id, queue=queue, reason=reason)
