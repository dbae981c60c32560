"""Whatever a job carries, and whatever is typed, is read in time linear in its length.

At this size, what grows with the square takes minutes.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from jiffy import tracebacks
from jiffy.control import read, search, values
from jiffy.cron_times import Cron, Every, zone_named
from jiffy.errors import JiffyError
from jiffy.json_types import convert, converter
from jiffy.json_types import read as read_json
from jiffy.log import escaped
from jiffy.producer.masking import is_secret, masked, masked_text

SIZE = 200_000
GROUP = "  +-+---------------- 1 ----------------\n"
PARTS = [
    "\n", " \n", "\r\n", " ", "a", "9", "*", "**a", "[", "{", '{"a":', '["', '"', "\\", "'", ",",
    "a=", "a=a=", "://", "://:a", "://a:@", "x=[", "password='", "password='a\\'", "a: ", "-", "*/",
    "1-2,", "mon,", "a.", "?a=", "http://a", "://a:...",
    'File "', '  File "x", line 1, in f\n', 'File "x", line 1, in f\n\n\n', "    +-", GROUP, "| ",
    "\n\nThe above exception was the direct cause of the following exception:\n\n", "\x1b", "1m1",
    'E: x\n\nDuring handling of the above exception, another exception occurred:\n\n', '{"a":1,',
]  # fmt: skip
LONG = {part: part * (SIZE // len(part)) for part in PARTS} | {
    "groups within groups": "".join(
        "  " * depth + GROUP + "  " * depth + "    | E: x\n" for depth in range(300)
    ),
    "many keys": json.dumps(dict.fromkeys(map(str, range(SIZE // 10)), 1)),
    "a key twice": '{"a": 1, "a": 1, ' + '"b": 1, ' * (SIZE // 8) + '"c": 1}',
}


def _matching(wanted):
    """A filter of a job that carries the string everywhere."""
    search_for = search.parse(wanted)

    def match(string):
        raw = json.dumps(["f.x", None, [string, {"a": string}], {"a": [string] * 3}]).encode()
        fields = {"data": raw, "description": string.encode()[:SIZE], "status": b"failed"}
        job = read.JobView(**{**vars(read._job("x", values.Fields(fields))), "error": string})
        return search_for.matches(job)

    return match


READERS = {
    "reason": tracebacks.reason_of, "shortened": tracebacks.shortened, "group": tracebacks.Group.of,
    "bounded": tracebacks.bounded, "masked": masked_text, "secret": is_secret,
    "string": masked,
    "json": lambda string: read_json(string.encode()), "log": escaped,
    "shown": lambda string: values.value(string.encode()), "cron": Cron.read, "every": Every.read,
    "zone": zone_named, "filter": search.parse,
    "until": lambda string: search.parse(f"after:{string}"),
    "slower": lambda string: search.parse(f"slower:{string}"),
    "argument": _matching("args.a:*x*x*x*x*x*x*x*x*"), "word": _matching("nothing"),
    "error": _matching("error:" + "*a" * 400), "name": _matching("fn:*a*a*a*a"),
    "long word": _matching(f"error:*{'a' * 900}b*"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", READERS)
def test_reading_is_linear(name):
    refusals = [refusal_of(READERS[name], string) for string in LONG.values()]

    assert [refusal for refusal in refusals if "\n" in refusal] == []


def refusal_of(reader, string):
    try:
        reader(string)
    except (JiffyError, ValueError) as refusal:
        return str(refusal)
    return ""


class Leaf:
    """Like a model of pydantic's; it counts how often each is read."""

    read: ClassVar = Counter()

    @classmethod
    def model_validate(cls, value):
        cls.read[value] += 1
        return cls()


@dataclass
class Tree:
    leaves: list[Leaf] = field(default_factory=list)
    parts: "list[Tree]" = field(default_factory=list)
    named: "dict[str, Tree]" = field(default_factory=dict)
    size: int = 0


@pytest.mark.parametrize("way", ["parts", "named"])
@pytest.mark.parametrize("size", [1, "large"])
def test_deep_arguments_are_converted_in_linear_time(way, size):
    Leaf.read.clear()
    value = {"leaves": [1, 2, 3], "size": size}
    for _ in range(30):
        inner = {"a": {}, "b": value, "c": {}}
        value = {way: inner if way == "named" else [*inner.values()]}

    assert bool(refusal_of(lambda tree: convert(tree, Tree), value)) == (size == "large")
    assert converter(Tree).fits(value) == (size == 1)
    assert max(Leaf.read.values()) < 8


class Numbers(list):
    """It counts how often it is gone through."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


def test_a_call_is_gone_through_once_for_all_values_that_are_looked_for():
    numbers = Numbers(range(1000))
    job = read.JobView(**{**vars(read._job("x", values.Fields({}))),
                          "call": read.Call("f.x", (), {"a": numbers, "b": [1]})})  # fmt: skip
    many = " ".join(f"args.a:{number}" for number in range(2000, 2028))

    assert search.parse(f"{many} args.a:999 args.b:1").matches(job)
    assert not search.parse(f"{many} args.b:1").matches(job)
    assert numbers.times == 2
