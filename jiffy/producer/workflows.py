"""Chains and groups: jobs that wait for others, and get what these returned.

Both are the same in Redis (`enqueue.lua`): a job that waits, and its parts.  The script that ends a
part notes it for the job that waits; see docs/internals.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ParamSpec, Union, Unpack

from rq.job import JobStatus

from jiffy import clock, keys, redis_io
from jiffy.errors import InvalidValue, JiffyError, WrongArguments
from jiffy.producer import options as job_options
from jiffy.producer.job import Job
from jiffy.producer.payload import MARK, result
from jiffy.producer.recipe import Prepared, Recipe, Written, new_id, rq_now, wrapped, write

P = ParamSpec("P")
Then = Union["Part", Callable[[Any], object]]

# So many ids in one command: Redis is never held up for long.
_CHUNK = 5000
# A producer that has not gone on for so long is gone, and did not write all parts.
_OPEN_S = 300
# A part's own id and what it depends on are made here; and it is no other call's job.
_NOT_OF_PARTS = dict.fromkeys(
    ("job_id", "depends_on", "unique", "unique_until"), "is a part of a chain or group"
)
# What waits for others has no time of its own.
_NOT_OF_THOSE_THAT_WAIT = _NOT_OF_PARTS | dict.fromkeys(("in_", "at"), "waits for others")


@dataclass(frozen=True)
class Part:
    """A call that is not enqueued yet; made with `part`."""

    func: Callable[..., object]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    given: job_options.Options

    def options(self, **given: Unpack[job_options.Options]) -> "Part":
        """This part with these options: `part(mail.send, "a@b.c").options(queue="low")`."""
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


# Given a part and the options that do not fit it, with the reasons.
RecipeOf = Callable[[Part, Mapping[str, str]], Recipe]


def chain(parts: Sequence[Part], recipe_of: RecipeOf) -> list[Job]:
    """Write a chain, all of it or nothing; see `Enqueue.chain`."""
    jobs = [*_prepared(parts[:1], recipe_of, _NOT_OF_PARTS)]
    if not jobs:
        raise InvalidValue("chain", (), "one part or more")
    if MARK in jobs[0].call.data:
        raise WrongArguments("Part 1: there is no part before it whose result it could take.")
    jobs += _prepared(parts[1:], recipe_of, _NOT_OF_THOSE_THAT_WAIT, start=2)
    jobs = [*map(wrapped, jobs)]
    joined = [_before(after, one) for one, after in pairwise(jobs)] + jobs[-1:]
    commands = [_opening(after, [one], "success") for one, after in pairwise(joined)][::-1]
    commands.append(joined[0].recipe.command(joined[:1], rq_now()))
    doubt = f"the chain may have been enqueued; look whether there is a job {jobs[-1].job_id!r}."
    redis_io.deliver_together(redis_io.shared(), commands, doubt)
    return [one.job() for one in jobs]


def group(parts: Iterable[Part], then: Then | None, recipe_of: RecipeOf) -> Group:
    """Write a group; see `Enqueue.group`."""
    jobs, redis = [*_prepared(parts, recipe_of, _NOT_OF_PARTS)], redis_io.shared()
    for number, one in enumerate(jobs, start=1):
        if MARK in one.call.data:
            raise WrongArguments(f"Part {number}: only `then` can take the results of a group.")
    if then is None:
        write(jobs)
        return Group([one.job() for one in jobs], None)
    last_part = then if isinstance(then, Part) else part(then, result)
    [last] = map(wrapped, _prepared([last_part], recipe_of, _NOT_OF_THOSE_THAT_WAIT, "then"))
    for number in range(0, len(jobs) or 1, _CHUNK):
        some = jobs[number : number + _CHUNK]
        redis_io.deliver(redis, _opening(last, some, "end", number, _OPEN_S))
    opened_at = clock.monotonic()

    def stay_open(_: Written) -> None:
        nonlocal opened_at
        if clock.monotonic() - opened_at > _OPEN_S / 10:
            redis_io.deliver(redis, _opening(last, [], "end", len(jobs), _OPEN_S))
            opened_at = clock.monotonic()

    write([_before(last, one) for one in jobs], stay_open)
    # All parts are written: from here on only these are waited for.
    end = ["end", last.job_id, "", JobStatus.FINISHED.value, "null", "null"]
    redis_io.deliver(redis, redis_io.script_command("ended_parts", [keys.JOINS], end))
    return Group([one.job() for one in jobs], last.job())


def _prepared(
    parts: Iterable[Any],
    recipe_of: RecipeOf,
    unfit: Mapping[str, str],
    called: str = "Part {}",
    start: int = 1,
) -> Iterator[Prepared]:
    """The parts, checked, each with an id.  An error says which part it is about."""
    if isinstance(parts, Part):
        raise InvalidValue("parts", parts, "a list, as group([part(…), part(…)])")
    for number, one in enumerate(parts, start):
        try:
            if not isinstance(one, Part):
                must = "a call, as part(function, …) makes it"
                if isinstance(one, list | tuple):
                    must += "; a chain takes its parts one by one: chain(part(…), part(…))"
                raise InvalidValue("it", one, must)
            recipe = recipe_of(one, unfit)
            call = recipe.call(one.args, one.kwargs, takes_results=True)
        except JiffyError as error:
            error.place = f"{called.format(number)}: "
            raise
        yield Prepared(recipe, call, new_id())


def _before(waiting: Prepared, one: Prepared) -> Prepared:
    return one._replace(recipe=one.recipe.having({keys.JOIN_FIELD: waiting.job_id}))


def _opening(
    waiting: Prepared,
    parts: Sequence[Prepared],
    needs: str,
    number: int = 0,
    open_s: int | str = "",
) -> bytes:
    """The command that writes a job that waits for parts, which must be written within `open_s`."""
    recipe = waiting.recipe
    if recipe.options.get("at_front"):
        recipe = recipe.having({"enqueue_at_front": 1})
    # Each command is repeated as itself: the first writes the job, the others add parts.
    token, ids = new_id() if number else "", ",".join(one.job_id for one in parts)
    return recipe.command([waiting], rq_now(), token, [needs, open_s, number, ids])
