"""How a job is tried again: with pauses that grow, and only for the errors that are worth it.

On the wire it is RQ's own retry, so stock workers pause as long.  What RQ has no words for stands
in a field of ours, with errors by their names: to decide, a worker imports nothing.
"""

import builtins
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import rq
import rq.timeouts

from jiffy import clock
from jiffy.errors import InvalidValue

Errors = type[BaseException] | str | Sequence[type[BaseException] | str]

_MOST_TRIES = 1000
_LONGEST_S = 366 * 24 * 3600
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_A_NAME = "an exception, or its name as tracebacks have it, such as 'requests.exceptions.Timeout'"
_MUST = "how many times to try again, from 1 to 1000"


class Retry(rq.Retry):
    """Try a job again, `max` times: `Retry(max=5, pause="2s", on=(TimeoutError,))`.

    The first pause is `pause`, each further one `factor` times as long, none over `limit`: 10, 20,
    40 seconds and so on, up to an hour.  With `jitter` each lasts between half of that and the
    whole, so that jobs that failed together do not come back together.  `pause=0`: no pauses.

    Only exceptions in `on` (all, if it is empty) and none in `fatal` are tried again; both hold for
    subclasses too.  A job over its time limit has raised rq.timeouts.JobTimeoutException.  One that
    was killed for its memory, or by a command, has raised nothing: with an `on`, it is not tried
    again.  Neither counts where a worker dies: that is a rescue, and spends no try.

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
        super().__init__(_count("max", max), _intervals(max, pause, factor, limit))
        if not isinstance(jitter, bool):
            raise InvalidValue("jitter", jitter, "True or False")
        self.jitter = jitter and any(self.intervals)
        self.on, self.fatal = _names("on", on), _names("fatal", fatal)

    @property
    def text(self) -> str:
        """What RQ has no words for, as a job carries it; "" if there is nothing."""
        rules = {"jitter": self.jitter, "on": self.on, "fatal": self.fatal}
        kept = {name: value for name, value in rules.items() if value}
        return json.dumps(kept) if kept else ""

    @property
    def once(self) -> rq.Retry:
        """RQ's own for a job that returned this one, with pauses as they are to be this time."""
        intervals: Any = [spread(pause_s) if self.jitter else pause_s for pause_s in self.intervals]
        return rq.Retry(self.max, intervals)


def from_json(value: Any) -> rq.Retry:
    """What an `enqueue` of JSON says: how many times, or an object of Retry's arguments.

    Raises InvalidValue.
    """
    if not isinstance(value, dict):
        return Retry(_count("retry", value, f"{_MUST}, or a Retry"))
    if "max" not in value or not _ARGUMENTS.issuperset(value):
        raise InvalidValue("retry", value, _OBJECT)
    return Retry(**value)


_OBJECT = "an object with max, and perhaps pause, factor, limit, jitter, on and fatal"
_ARGUMENTS = {"max", "pause", "factor", "limit", "jitter", "on", "fatal"}


def names_of(error: type[BaseException]) -> tuple[str, ...]:
    """The names of an exception and of all that it is a kind of."""
    return tuple(_name_of(kind) for kind in error.__mro__)


class Rules:
    """A job's rules, as it carries them (`Retry.text`); what cannot be read rules nothing."""

    def __init__(self, text: str | bytes | None) -> None:
        self._read = _read(text)

    def objection(self, names: Sequence[str]) -> str:
        """Why a job is not to be tried again that raised what has these names; "" if it is."""
        fatal = [name for name in names if name in self._list("fatal")]
        if fatal:
            return f"{fatal[0]} is fatal to it"
        if self._list("on") and not any(name in self._list("on") for name in names):
            return f"{names[0] if names else 'what ended it'} is not what it is tried again on"
        return ""

    def pause_s(self, interval_s: float) -> float:
        """How long to wait this time."""
        return spread(interval_s) if self._read.get("jitter") else interval_s

    def _list(self, name: str) -> list[Any]:
        found = self._read.get(name)
        return found if isinstance(found, list) else []


def spread(pause_s: float) -> float:
    """Some time between half of a pause and the whole.

    Never more than was asked for, and never so little that growing pauses no longer grow.
    """
    return pause_s * random.uniform(0.5, 1)


def _read(text: str | bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _count(name: str, tries: Any, must: str = _MUST) -> int:
    if type(tries) is not int or not 1 <= tries <= _MOST_TRIES:
        raise InvalidValue(name, tries, must)
    return tries


def _intervals(
    tries: int, pause: clock.Duration, factor: float, limit: clock.Duration
) -> list[int]:
    """One pause for each try, in whole seconds: RQ repeats the first of a list that is shorter."""
    first_s, most_s = clock.seconds(pause, "pause"), clock.seconds(limit, "limit")
    if type(factor) not in (int, float) or not 1 <= factor <= _MOST_TRIES:
        raise InvalidValue("factor", factor, f"a number from 1 to {_MOST_TRIES}")
    if most_s > _LONGEST_S:
        raise InvalidValue("limit", limit, "a year at most")
    if first_s > most_s:
        raise InvalidValue("pause", pause, f"no more than limit, which is {limit!r}")
    pauses, pause_s = [], first_s
    for _ in range(tries):
        pauses.append(max(1, round(pause_s)) if first_s else 0)
        pause_s = min(pause_s * factor, most_s)
    return pauses


def _names(name: str, errors: Errors) -> list[str]:
    several = errors if isinstance(errors, list | tuple) else [errors]
    return [_checked_name(name, error) for error in several]


def _checked_name(name: str, error: Any) -> str:
    if isinstance(error, type) and issubclass(error, BaseException):
        return _name_of(error)
    if isinstance(error, str) and _PATH.fullmatch(error):
        path = error.removeprefix("builtins.")
        builtin = getattr(builtins, path, None)
        if isinstance(builtin, type) and issubclass(builtin, BaseException):
            return _name_of(builtin)
        if "." in path:
            return path
    raise InvalidValue(name, error, _A_NAME)


def _name_of(kind: type) -> str:
    """Its name as tracebacks have it."""
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


# What a job raised that had to be killed at its time limit, since it did not heed it.
TIMED_OUT = names_of(rq.timeouts.JobTimeoutException)
