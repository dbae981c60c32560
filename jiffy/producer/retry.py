"""How a job is retried: with pauses that grow, and only for the errors that are worth it.

On the wire it is RQ's own retry, so stock workers pause as long.  What RQ cannot express stands in
a field of ours, with errors by their names: to decide, a worker imports nothing.
"""

import builtins
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import rq
import rq.timeouts

from jiffy import clock
from jiffy.errors import InvalidValue

Errors = type[BaseException] | str | Sequence[type[BaseException] | str]

MOST_TRIES = 1000
_MOST_LETTERS = 4000  # of what a job carries of its rules: a worker reads 20 kB at most
_MOST_PAUSE_S = 366 * 24 * 3600
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ARGUMENTS = {"max", "pause", "factor", "limit", "jitter", "on", "fatal"}


class Retry(rq.Retry):
    """Retry a job, `max` times: `Retry(max=5, pause="2s", on=(TimeoutError,))`.

    The first pause is `pause`, each further one `factor` times as long, none over `limit`: 10, 20,
    40 seconds and so on, up to an hour.  With `jitter` each lasts between half of that and the
    whole, so that jobs that failed together do not come back together.  `pause=0`: no pauses.

    Only exceptions in `on` (all, if it is empty) and none in `fatal` are retried; both hold for
    subclasses too.  A job over its time limit has raised rq.timeouts.JobTimeoutException.  One that
    was killed for its memory, or by a command, has raised nothing: with an `on`, it is not retried.
    Neither counts where a worker dies: the job starts again without using up a retry.

    Raises InvalidValue.
    """

    def __init__(
        self,
        max: int,  # noqa: A002 - RQ's name for it
        *,
        pause: clock.Duration = "10s",
        factor: float = 2,
        limit: clock.Duration = "1h",
        jitter: bool = True,
        on: Errors = (),
        fatal: Errors = (),
    ) -> None:
        if not _is_count(max):
            raise InvalidValue("max", max, f"how many times to retry, from 1 to {MOST_TRIES}")
        first_s, most_s = clock.seconds(pause, "pause"), clock.seconds(limit, "limit")
        if type(factor) not in (int, float) or not 1 <= factor <= MOST_TRIES:
            raise InvalidValue("factor", factor, f"a number from 1 to {MOST_TRIES}")
        if most_s > _MOST_PAUSE_S:
            raise InvalidValue("limit", limit, "a year at most")
        if first_s > most_s:
            raise InvalidValue("pause", pause, f"no more than limit, which is {limit!r}")
        # A pause for each try, in whole seconds: RQ repeats the first of a list that is shorter.
        pauses, pause_s = list[int](), first_s
        for _ in range(max):
            pauses.append(builtins.max(1, round(pause_s)) if first_s else 0)
            pause_s = min(pause_s * factor, most_s)
        super().__init__(max, pauses)
        if not isinstance(jitter, bool):
            raise InvalidValue("jitter", jitter, "true or false")
        self.jitter = jitter and any(self.intervals)
        self.on, self.fatal = _names("on", on), _names("fatal", fatal)
        if len(self.text) > _MOST_LETTERS:
            count, name = builtins.max((len(self.on), "on"), (len(self.fatal), "fatal"))
            must = f"no more than {_MOST_LETTERS:,} characters of names in on and fatal together"
            raise InvalidValue(name, f"{count:,} names", must)

    @property
    def text(self) -> str:
        """What RQ cannot express, as a job carries it; "" if there is nothing."""
        rules = Rules(self.jitter, self.on, self.fatal)
        return "" if rules == Rules() else msgspec.json.encode(rules).decode()

    @property
    def once(self) -> rq.Retry:
        """RQ's own for a job that returned this one, with the pauses of this time."""
        intervals: Any = [spread(pause_s) if self.jitter else pause_s for pause_s in self.intervals]
        return rq.Retry(self.max, intervals)


def read(name: str, value: Any) -> rq.Retry:
    """A Retry, how many times, or a dict of Retry's arguments; `name` is what errors call it."""
    if isinstance(value, rq.Retry):  # RQ takes any pause that is not below 0, also unwritable ones
        for pause_s in value.intervals:
            if type(pause_s) not in (int, float) or not 0 <= pause_s <= clock.LONGEST_S:
                must = "a number of seconds, a hundred years at most"
                raise InvalidValue(f"{name}.interval", pause_s, must)
        if type(value.max) is not int:
            raise InvalidValue(f"{name}.max", value.max, "a whole number")
        return value
    if isinstance(value, dict):
        if "max" not in value or not _ARGUMENTS.issuperset(value):
            must = "an object with max, and perhaps pause, factor, limit, jitter, on and fatal"
            raise InvalidValue(name, value, must)
        try:
            return Retry(**value)
        except InvalidValue as error:
            raise InvalidValue(f"{name}.{error.name}", error.value, error.must) from None
    if not _is_count(value):
        must = f"how many times to retry, from 1 to {MOST_TRIES}, or a Retry"
        raise InvalidValue(name, value, must)
    return Retry(value)


def given(pauses: Sequence[float], count: int, text: str) -> int | dict[str, Any]:
    """What `read` takes for what a job carries; for pauses that no Retry has, `count` alone."""
    if len(pauses) < count <= MOST_TRIES:
        pauses = [*pauses[:1]] * count  # as RQ does
    rules, first_s = Rules.read(text), pauses[0]
    factor = pauses[1] / first_s if pauses[1:] and first_s else 1
    grown = {"max": count, "pause": first_s, "factor": factor, "limit": max(pauses),
             "jitter": rules.jitter, "on": rules.on, "fatal": rules.fatal}  # fmt: skip
    for guess in (count, {name: one for name, one in grown.items() if one != []}):
        with suppress(InvalidValue):
            made = read("retry", guess)
            if made.intervals == pauses and made.text == text:  # type: ignore[attr-defined]
                return guess
    return count


class Rules(msgspec.Struct, omit_defaults=True):
    """A job's rules, as it carries them (`Retry.text`)."""

    jitter: bool = False
    on: list[str] = []
    fatal: list[str] = []

    @classmethod
    def read(cls, text: str | bytes | None) -> "Rules":
        """Those that were written; what cannot be read rules nothing."""
        try:
            return msgspec.json.decode(text or "{}", type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return cls()

    def objection(self, names: Sequence[str]) -> str:
        """Why a job that raised what has these names is not retried; "" if it is."""
        if fatal := [name for name in names if name in self.fatal]:
            return f"{fatal[0]} is one of its `fatal` errors"
        if self.on and not any(name in self.on for name in names):
            return f"{names[0] if names else 'what ended it'} is not one of its `on` errors"
        return ""

    def pause_s(self, interval_s: float) -> float:
        """How long to wait this time."""
        return spread(interval_s) if self.jitter else interval_s


def spread(pause_s: float) -> float:
    """Between half of a pause and the whole: never so little that growing pauses do not grow."""
    return pause_s * random.uniform(0.5, 1)


def names_of(error: type[BaseException]) -> tuple[str, ...]:
    """The names of an exception and of its base classes, as tracebacks have them."""
    return tuple(
        f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.") for kind in error.__mro__
    )


# What a job raised that had to be killed at its time limit, since it ignored it.
TIMED_OUT = names_of(rq.timeouts.JobTimeoutException)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_TRIES


def _names(name: str, errors: Errors) -> list[str]:
    found = []
    for error in errors if isinstance(errors, list | tuple) else [errors]:
        kind: Any = error
        if isinstance(error, str) and _PATH.fullmatch(error):
            path = error.removeprefix("builtins.")
            kind = getattr(builtins, path, path)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            found.append(names_of(kind)[0])
        elif isinstance(kind, str) and _PATH.fullmatch(kind) and "." in kind:
            found.append(kind)
        else:
            must = "an exception, or its name as tracebacks have it, such as "
            raise InvalidValue(name, error, f"{must}'requests.exceptions.Timeout'")
    return found
