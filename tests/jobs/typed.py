"""Functions with annotations: each returns what it was given, for the tests of types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import numpy
import pydantic

if TYPE_CHECKING:
    from fractions import Fraction


T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


@dataclass
class Item:
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass
class Order:
    id: UUID
    items: list[Item]
    at: datetime | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class GiftOrder(Order):
    note: str = ""


@dataclass
class Account:
    name: str
    password: str


@dataclass
class Server:
    host: str = "db.example"
    password: str = "hunter2"
    url: str = "https://me:hunter2@db.example"


class Key(NamedTuple):
    name: str = "main"
    secret: str = "hunter2"


class Session(pydantic.BaseModel):
    token: str = pydantic.Field("hunter2", examples=["hunter2"])


class Point(msgspec.Struct):
    x: int
    y: Annotated[int, msgspec.Meta(ge=0)] = 0


class Card(msgspec.Struct, tag=True, rename="camel"):
    last_digits: str


class Cash(msgspec.Struct, tag=True):
    given: Decimal


class Customer(pydantic.BaseModel):
    name: str
    born: date
    points: list[int] = []


class Company(Customer, extra="forbid"):
    @pydantic.computed_field
    @property
    def label(self) -> str:
        return self.name


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


@dataclass
class Node:
    below: list[Node]


@dataclass
class Box(Generic[T]):
    inside: T


class Stamp(datetime):
    """A kind of datetime, such as pandas has."""


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    loud: bool


def moment(it: datetime) -> datetime:
    return same(it, datetime)


def day(it: date) -> date:
    return same(it, date)


def mixed(it: set) -> set:
    return same(it, set)


def clock(it: time) -> time:
    return same(it, time)


def span(it: timedelta) -> timedelta:
    return same(it, timedelta)


def key(it: UUID) -> UUID:
    return same(it, UUID)


def money(it: Decimal) -> Decimal:
    return same(it, Decimal)


def place(it: Path) -> Path:
    return same(it, Path)


def color(it: Color) -> Color:
    return same(it, Color)


def level(it: Level) -> Level:
    return same(it, Level)


def order(it: Order) -> Order:
    return same(it, Order)


def account(it: Account) -> None:
    """A part of its argument is a secret."""


def point(it: Point) -> Point:
    return same(it, Point)


def customer(it: Customer) -> Customer:
    return same(it, Customer)


def company(it: Company) -> Company:
    return same(it, Company)


def login(it: Login) -> None:
    """Its model masks a part of it."""


def payments(it: list[Card | Cash] | None) -> list[Card | Cash] | None:
    assert all(isinstance(one, Card | Cash) for one in it or [])
    return it


def node(it: Node) -> Node:
    return same(it, Node)


def boxed(it: Box) -> None:
    """What is inside is not annotated."""


def unique(it: set[int]) -> set[int]:
    return same(it, set)


def frozen(it: frozenset[str]) -> frozenset[str]:
    return same(it, frozenset)


def row(it: tuple[int, Path, int]) -> tuple[int, Path, int]:
    return same(it, tuple)


def anything_in_a_row(it: tuple) -> tuple:
    return same(it, tuple)


def pair(it: Pair) -> Pair:
    return same(it, Pair)


def raw(it: bytes) -> bytes:
    return same(it, bytes)


def size(it: Literal["s", "m"] | None) -> Literal["s", "m"] | None:
    return same(it, str)


def few(it: Annotated[int, msgspec.Meta(le=3)]) -> int:
    return it


def share(it: float | None) -> float | None:
    return it


def maybe(it: date | None) -> date | None:
    return same(it, date)


def by_number(it: dict[int, Decimal]) -> dict[int, Decimal]:
    return same(it, dict)


def by_color(it: dict[Color, list[date]]) -> dict[Color, list[date]]:
    return same(it, dict)


def nested(it: list[dict[str, tuple[Order, ...]]]) -> list[dict[str, tuple[Order, ...]]]:
    return same(it, list)


def count(it: numpy.int64) -> numpy.int64:
    return same(it, numpy.int64)


def ratio(it: numpy.float32) -> numpy.float32:
    return same(it, numpy.float32)


def flag(it: numpy.bool_) -> numpy.bool_:
    return same(it, numpy.bool_)


def options(it: Options) -> Options:
    return same(it, dict)


def numbers(it: list[float]) -> list[float]:
    return same(it, list)


def strings(it: Sequence[str]) -> Sequence[str]:
    return same(it, list)


def loose(it: dict[str, Any]) -> dict[str, Any]:
    return same(it, dict)


def either(it: str | Path) -> str:
    return same(it, str)


def lazily(it: Iterable[int]) -> None:
    """Its annotation cannot be converted."""


def unresolved(it: Fraction) -> None:
    """The name of its annotation is there for type checkers only."""


def spread(*days: date, last: date | None = None, **named: Decimal) -> list[str]:
    """Annotations of all kinds of parameters.

    The second paragraph.
    """
    return [repr(days), repr(last), repr(named)]


def implicit(it: date = None) -> date:  # type: ignore[assignment]  # noqa: RUF013
    return it


def untyped(it):
    return it


def numbered():
    return {1: 2}


def broken_promise() -> date:
    return [1, 2]  # type: ignore[return-value]


def lines(path: str):
    yield path


async def lines_later(path: str):
    yield path


async def later(it: date) -> date:
    return same(it, date)


def log_in(user: str, password: int) -> None:
    """One of its arguments is a secret."""


SERVER, KEY, SESSION = Server(), Key(), Session()


def look_up(at: Server = SERVER, key: Key = KEY, session: Session = SESSION) -> None:
    """Its defaults have secrets within."""


def tidy(
    most: int | None = 5, mode: Literal["old"] | None = "old", what: Any = "all",
    token: str | None = None,
) -> None:  # fmt: skip
    """None, and "", are no defaults, but for the secret."""


def rehearse(is_dry: bool = True) -> bool:
    return same(is_dry, bool)


def same(it: Any, kind: type) -> Any:
    assert it is None or isinstance(it, kind), f"{it!r} is no {kind}"
    return it
