"""Ordinary jobs of every kind: how they are enqueued, and what must become of them."""

from collections.abc import Callable
from typing import Any

from bench.chaos import jobs
from bench.chaos.ledger import QUEUE, Expected
from bench.chaos.producer import KEPT_S, insist
from jiffy import Retry, enqueue, part, result

BRIEF_S = 0.02
MANY = 30
# More than one call of a script looks at.
PARENTS = 120

put = enqueue.options(queue=QUEUE, result_ttl=KEPT_S)
Kind = Callable[[str], list[Expected]]


def one(func: Callable[..., object] = jobs.work, **options: Any) -> Kind:
    """A single job; what it is to come to are the `options` whose names `Expected` has."""
    expected = {name: options.pop(name) for name in Expected.__slots__ if name in options}

    def enqueue_it(name: str) -> list[Expected]:
        args = [name, BRIEF_S] if func is jobs.work else [name]
        insist(lambda: put.options(job_id=name, **options)(func, *args))
        return [Expected(name, **expected)]

    return enqueue_it


def many(name: str, number: int = MANY) -> list[Expected]:
    """Jobs that are claimed in batches."""
    names = [f"{name}-{each}" for each in range(number)]
    insist(lambda: put.many(jobs.tiny, [[each] for each in names], job_ids=names))
    return [*map(Expected, names)]


def family(name: str, parents: int = 1) -> list[Expected]:
    """Dependents in RQ's way."""
    above = many(name, parents)
    ids = tuple(each.job_id for each in above)
    below = []
    for number in range(3):
        below += one(jobs.tiny, depends_on=ids, after=ids)(f"{name}-of-{number}")
    return [*above, *below]


# Those below get random ids: where it is in doubt whether they are there, they are not counted.


def unique(name: str) -> list[Expected]:
    """The same call twice: one job, or two, one after the other."""
    once = put.options(unique="1h", unique_until="done")
    ids = {once(jobs.work, name, BRIEF_S).id for _ in range(2)}
    return [Expected(job_id, name, ends=len(ids), runs=len(ids), together=1) for job_id in ids]


def chain(name: str) -> list[Expected]:
    names = [f"{name}-{number}" for number in range(3)]
    made = put.chain(*(part(jobs.work, each, BRIEF_S) for each in names))
    return [
        Expected(job.id, each, after=tuple(names[:number]))
        for number, (job, each) in enumerate(zip(made, names, strict=True))
    ]


def group(name: str) -> list[Expected]:
    names = [f"{name}-{number}" for number in range(3)]
    made = put.group([part(jobs.tiny, each) for each in names], part(jobs.gather, result, name))
    assert made.then
    parts = [Expected(job.id, each) for job, each in zip(made.jobs, names, strict=True)]
    return [*parts, Expected(made.then.id, name, tuple(names))]


KINDS: dict[str, Kind] = {
    "plain": one(),
    "retried": one(jobs.fail_twice, retry=Retry(3, pause=0), runs=3, retries_left=1),
    "retried-later": one(jobs.fail_twice, retry=Retry(3, pause=1), runs=3, retries_left=1),
    "called-back": one(on_success=jobs.call, calls=1),
    "limited": one(rate_limit="chaos:2", together=2),
    "never-twice": one(rescue=False, may_restart=False),
    "expiring": one(expires="10m"),
    "later": one(in_="500ms"),
    "isolated": one(isolate=True),
    "many": many,
    "family": family,
    "large-family": lambda name: family(name, PARENTS),
    "unique": unique,
    "chain": chain,
    "group": group,
}
