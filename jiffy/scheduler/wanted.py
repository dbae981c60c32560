"""Whom an entry wants to be told of missed ticks and of jobs that are over, as a line may say it.

The table alone knows the addresses: nothing of them is written to Redis or shown whole, since who
knows such an address may use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from jiffy import clock
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.producer import functions
from jiffy.producer.enqueue import enqueue
from jiffy.producer.masking import MASK
from jiffy.scheduler.due import NO_SCHEDULER

OnMissed = str | functions.Function
_ADDRESS = "an address, such as https://example.com/hook"


@dataclass(frozen=True)
class Wanted:
    """Whom an entry tells: of missed ticks an address or a function, of jobs' ends an address."""

    on_missed: OnMissed | None = field(default=None, repr=False)
    ping: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.on_missed is not None or self.ping is not None

    def in_words(self) -> str:
        """For a person; "" where nobody is told."""
        words = [f"missed: tells {shown(self.on_missed)}"] if self.on_missed else []
        words += [f"over: pings {shown(self.ping)}"] if self.ping else []
        return ", ".join(words)


NOBODY = Wanted()


def read(given: Mapping[str, Any], name: str) -> Wanted:
    """What a line of the table wants.  Raises InvalidValue, and what `Enqueue.check` raises."""
    on_missed, ping = given.get("on_missed"), given.get("ping")
    if callable(on_missed):
        _check_function(on_missed, name)
    elif on_missed is not None:
        _check_address("on_missed", on_missed, f"a function, or {_ADDRESS}")
    if ping is not None:
        _check_address("ping", ping, _ADDRESS)
    return Wanted(on_missed, ping)


def arguments(name: str, slot: datetime, reason: str) -> Sequence[str]:
    return name, f"{slot.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", reason


def shown(whom: OnMissed) -> str:
    if not isinstance(whom, str):
        return functions.path_of(whom)
    parts = urlsplit(whom)
    return f"{parts.scheme}://{parts.netloc}/{MASK}"


def _check_function(function: functions.Function, name: str) -> None:
    try:
        enqueue.check(function, arguments(name, clock.now(), NO_SCHEDULER), {})
    except WrongArguments as error:
        told = "the entry's name, the slot and the reason"
        raise WrongArguments(f"on_missed is called with {told}: {error}") from None


def _check_address(name: str, value: object, must: str) -> None:
    if not isinstance(value, str) or not _is_address(value):
        raise InvalidValue(name, MASK if isinstance(value, str) else value, must)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - a ValueError if it is no number
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(" @")
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)
