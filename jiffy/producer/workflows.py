"""Chains and groups: jobs that wait for others, and get what these returned.

Both are the same in Redis (`join_open.lua`): a job that waits, and those that it waits for.  It is
told of their end in the very step in which a worker ends them, see docs/internals.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, NamedTuple, ParamSpec, Union, Unpack

from rq.job import JobStatus

from jiffy import clock, connection, keys, redis_io
from jiffy.errors import InvalidValue, JiffyError, RedisAway, RedisFull, WrongArguments
from jiffy.producer import bulk
from jiffy.producer import options as job_options
from jiffy.producer.job import Job, made_of, stand_in
from jiffy.producer.payload import MARK, Call, result
from jiffy.producer.recipe import Recipe, new_id
from jiffy.redis_io import pack, prepacked

P = ParamSpec("P")
Then = Union["Part", Callable[[Any], object]]

# So many ids in one message: Redis is nobody's for long.
_CHUNK = 5000
# A producer that has said nothing for so long is gone, and did not write all parts.
_OPEN_S = 300
# A part's own id and what it depends on are made here; and it is nobody else's job.
_OF_NO_PART = dict.fromkeys(
    ("job_id", "depends_on", "unique", "unique_until"), "is a part of a chain or group"
)
# What waits for others has no time of its own.
_OF_NONE_THAT_WAITS = _OF_NO_PART | dict.fromkeys(("in_", "at"), "waits for others")


@dataclass(frozen=True)
class Part:
    """A call that is not enqueued yet; made with `part`."""

    func: Callable[..., object]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    given: job_options.Options

    def options(self, **given: Unpack[job_options.Options]) -> "Part":
        """The same with these options: `part(mail.send, "a@b.c").options(queue="low")`."""
        job_options.read(given)
        return replace(self, given={**self.given, **given})


def part(func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Part:
    """A call for `enqueue.chain` or `enqueue.group`; among its arguments there may be `result`."""
    return Part(func, args, kwargs, {})


@dataclass(frozen=True)
class Group:
    """What `enqueue.group` has enqueued: the jobs, and the one that waits for all of them."""

    jobs: Sequence[Job]
    then: Job | None


class Made(NamedTuple):
    """A part that was checked, and is about to be written."""

    recipe: Recipe
    call: Call
    job_id: str

    @property
    def job(self) -> Job:
        """The job, to be read from Redis when it is asked for more than its id."""
        redis, ttl = connection.shared(), self.recipe.same.get("result_ttl")
        job: Job = stand_in(
            self.job_id, redis, Job.refresh, origin=self.recipe.queue, result_ttl=ttl
        )
        return job

    @property
    def takes_results(self) -> bool:
        """Whether `result` is among its arguments."""
        return MARK in self.call.data

    def before(self, waiting: "Made | None") -> "Made":
        """The same as one that another waits for."""
        return self if waiting is None else self._replace(recipe=self.recipe.joined(waiting.job_id))

    def message(self) -> bytes:
        """The words that put it on its queue at once."""
        return self.recipe.message(self.call, self.job_id, "", clock.rq_text(clock.wall()))

    def waiting_fields(self) -> dict[str, Any]:
        """Its hash as long as it waits for others.  Mirrors rq.Job.to_dict."""
        fields = self.recipe.fields(self.call, clock.rq_text(clock.wall()))
        job = made_of(fields, self.job_id, connection.shared())
        job.enqueued_at = None
        job.enqueue_at_front = self.recipe.options.get("at_front")
        return job.to_dict() | {"status": JobStatus.DEFERRED.value, "data": self.call.data}


# Given a part, and which options cannot be its.
Recipes = Callable[[Part, Collection[str]], Recipe]


def chain(parts: Sequence[Part], recipe_of: Recipes) -> list[Job]:
    """Write a chain, all of it or nothing; see `Enqueue.chain`."""
    first = _made(parts[:1], recipe_of)
    if not first:
        raise InvalidValue("chain", (), "one part or more")
    if first[0].takes_results:
        raise WrongArguments("Part 1: there is no part before it whose result it could take.")
    made = first + _made(parts[1:], recipe_of, _OF_NONE_THAT_WAITS, start=2)
    messages, waiting = list[bytes](), None
    for before, one in reversed([*pairwise(made)]):
        messages.append(_opening(one.before(waiting), [before], needs="success"))
        waiting = one
    messages.append(made[0].before(waiting).message())
    doubt = f"the chain may have been enqueued; look whether there is a job {made[-1].job_id!r}."
    redis_io.deliver_together(connection.shared(), messages, doubt)
    return [one.job for one in made]


def group(parts: Iterable[Part], then: Then | None, recipe_of: Recipes) -> Group:
    """Write a group; see `Enqueue.group`."""
    members = _made(parts, recipe_of)
    for number, one in enumerate(members, start=1):
        if one.takes_results:
            raise WrongArguments(f"Part {number}: only `then` can take the results of a group.")
    last = None if then is None else _made_last(then, recipe_of)
    if last is not None:
        for first in range(0, len(members) or 1, _CHUNK):
            some = members[first : first + _CHUNK]
            _deliver(_opening(last, some, needs="end", first=first, open_s=_OPEN_S))
    _write(members, last)
    if last is not None:
        _deliver(_closing(last))
    return Group([one.job for one in members], last and last.job)


def _made(
    parts: Iterable[Part],
    recipe_of: Recipes,
    unfit: Mapping[str, str] = _OF_NO_PART,
    *,
    called: str = "Part {}",
    start: int = 1,
) -> list[Made]:
    """The parts, checked, each with an id.  Raises what is wrong with one, and says which."""
    made: list[Made] = []
    last: Part | None = None
    for number, one in enumerate(parts, start):
        try:
            if not isinstance(one, Part):
                raise InvalidValue("it", one, "a call, as part(function, …) makes it")
            is_like_last = last is not None and (one.func, one.given) == (last.func, last.given)
            recipe = made[-1].recipe if is_like_last else _fit(recipe_of(one, unfit), unfit)
            made.append(Made(recipe, recipe.part(one.args, one.kwargs), new_id()))
        except JiffyError as error:
            error.place = f"{called.format(number)}: "
            raise
        last = one
    return made


def _made_last(then: Then, recipe_of: Recipes) -> Made:
    """The one that waits for a group: a part, or a function that takes the results."""
    last_part = then if isinstance(then, Part) else part(then, result)
    [last] = _made([last_part], recipe_of, _OF_NONE_THAT_WAITS, called="then")
    return last


def _fit(recipe: Recipe, unfit: Mapping[str, str]) -> Recipe:
    for name, why in unfit.items():
        if name in recipe.options:
            raise InvalidValue(name, recipe.given[name], f"left out: {recipe.target.path} {why}")
    return recipe


def _opening(
    waits: Made, others: Sequence[Made], *, needs: str, first: int = 0, open_s: int | str = ""
) -> bytes:
    """The words that write a job that waits for others, which must be written within `open_s`."""
    queue, fields = waits.recipe.queue, waits.waiting_fields()
    words = [
        1, keys.queue(queue), queue, waits.job_id, needs, open_s,
        waits.recipe.remembered_s, waits.call.data if waits.takes_results else "",
        first, len(others), *(one.job_id for one in others),
        *(word for pair in fields.items() for word in pair),
    ]  # fmt: skip
    return prepacked("join_open", len(words), pack(words))


def _closing(waits: Made) -> bytes:
    """The words that say that all parts are written: from here on only these are waited for."""
    words = [1, keys.JOINS, waits.job_id, "", JobStatus.FINISHED.value, "null", "null"]
    return prepacked("join_over", len(words), pack(words))


def _write(members: Sequence[Made], last: Made | None) -> None:
    """Put them on their queues, in bulk where several in a row are alike."""
    count = 0
    for _, some in groupby(members, key=lambda one: id(one.recipe)):
        alike = list(some)
        recipe = alike[0].before(last).recipe
        jobs = [(one.job_id, one.call) for one in alike]
        try:
            bulk.put_made(connection.shared(), recipe, jobs)
        except (RedisAway, RedisFull) as error:
            raise error.after(count) from error
        count += len(alike)


def _deliver(message: bytes) -> None:
    redis_io.deliver(connection.shared(), message)
