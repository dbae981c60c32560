"""Where Redis' memory goes, estimated from a bounded sample of keys, and when it is full."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, history, keys
from jiffy.control.read import Census

_SAMPLED = 300  # keys
_MEASURED = 40  # lists and registries, the longest ones
_LEAST_FORECAST_S = 3600
_KINDS = (
    (keys.queue(""), "queues and registries"),
    *((prefix, "queues and registries") for prefix in keys.REGISTRIES.values()),
    (keys.job(""), "jobs"),
    (keys.results(""), "results of jobs"),
    (keys.history(""), "history"),
    (keys.OWN, "Jiffy's other keys"),
    (keys.RQ, "RQ's other keys"),
    ("", "keys of others"),
)
_MEASURED_KINDS = ("queues and registries", "history")  # and not sampled


@dataclass(frozen=True)
class Use:
    """The bytes of each kind of key, the most first; and what Redis used over the last day."""

    kinds: list[tuple[str, int]]
    past: list[tuple[float, int]]

    @property
    def per_s(self) -> float | None:
        """How fast it grows; None: it has not been watched for long enough."""
        if len(self.past) < 2 or self.past[-1][0] - self.past[0][0] < _LEAST_FORECAST_S:
            return None
        (began_s, before), (ended_s, after) = self.past[0], self.past[-1]
        return (after - before) / (ended_s - began_s)

    def forecast(self, used: int, most: int) -> str:
        """When it is full at the present rate, in words; "" where that cannot be said."""
        per_s = self.per_s
        if per_s is None:
            return ""
        watched = clock.in_words(round(self.past[-1][0] - self.past[0][0]))
        if per_s * 86400 < max(used, 1) / 100:
            return f"it has not grown in {watched}"
        if not most:
            return f"it grows by {per_s * 86400 / (1 << 20):,.0f} MB a day"
        left_s = max(0, most - used) / per_s
        days = left_s / 86400
        when = f"{days:,.0f} days" if days >= 2 else clock.in_words(round(left_s / 60) * 60)
        return f"full in about {when} at the rate of the last {watched}"


def look(redis: Redis, seen: Census) -> Use:
    """In two round trips; without kinds where Redis does not permit it."""
    lists = _lists(seen)
    measured: list[Any] = [key for key, _ in lists[:_MEASURED]]
    with redis.pipeline(transaction=False) as pipe:
        pipe.dbsize()
        pipe.hvals(history.MEMORY_KEY)
        for _ in range(_SAMPLED):
            pipe.randomkey()
        size, past, *found = map(_value, pipe.execute(raise_on_error=False))
    sampled = [key for key in found if isinstance(key, bytes)]
    kept = history.stored_keys(seen.taken.timestamp())
    with redis.pipeline(transaction=False) as pipe:
        for key in [*measured, *kept, *sampled]:
            pipe.memory_usage(key, samples=3)
        sizes = [_value(one) or 0 for one in pipe.execute(raise_on_error=False)]
    kinds = Counter({"history": sum(sizes[len(measured) : len(measured) + len(kept)])})
    if members := sum(count for _, count in lists[:_MEASURED]):
        whole = sum(count for _, count in lists)
        kinds["queues and registries"] = sum(sizes[: len(measured)]) * whole // members
    shares: dict[str, list[int]] = defaultdict(list)
    for key, used in zip(sampled, sizes[len(measured) + len(kept) :], strict=True):
        shares[_kind(key)].append(used)
    for kind, used_each in shares.items():
        if kind not in _MEASURED_KINDS:
            kinds[kind] += (size or 0) * sum(used_each) // len(sampled)
    return Use([(kind, used) for kind, used in kinds.most_common() if used], history.memory(past))


def _value(answer: Any) -> Any:
    """None where Redis does not permit it, or the key holds another type."""
    return None if isinstance(answer, ResponseError) else answer


def _lists(seen: Census) -> list[tuple[str, int]]:
    """The keys of queues and registries, and how many jobs each has, the longest first."""
    found = [
        (keys.jobs_in(state, queue.name), count)
        for queue in seen.queues
        for state, count in queue.counts.items()
        if count
    ]
    return sorted(found, key=lambda one: -one[1])


def _kind(key: bytes) -> str:
    name = key.decode("utf-8", "replace")
    return next(kind for prefix, kind in _KINDS if name.startswith(prefix))
