"""What a POST about an entry of the schedule may ask for, read and checked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import abort, request

from jiffy.dashboard.api import body, kinds
from jiffy.dashboard.api.kinds import Kind
from jiffy.dashboard.api.wrong import told_where, unknown
from jiffy.errors import InvalidValue

WHO = "the API"

Fields = Mapping[str, tuple[str, Kind]]
PAUSE: Fields = {
    "why": ("Shown wherever the entry is.", kinds.NOTE),
    "until": ("When it ends by itself: '2h', or a time with its zone.", kinds.TEXT),
    "who": (f"Who asks; else '{WHO}'.", kinds.NOTE),
}
SKIP: Fields = {"count": ("So many next ticks, else 1; 0 takes it back.", kinds.COUNT)}
RUN: Fields = {"who": PAUSE["who"]}
NOTHING: Fields = {}


@contextmanager
def read(fields: Fields) -> Iterator[dict[str, Any]]:
    """What the body asks for, which may be empty; errors meanwhile point to what of it is wrong."""
    asked = body.read() if request.get_data() else {}
    if not isinstance(asked, dict):
        abort(400, "The body must be an object, or empty.")
    with told_where(asked, None):
        for name in asked.keys() - fields.keys():
            if not fields:
                raise InvalidValue("field", name, "left out: there is none")
            raise unknown("field", name, fields)
        yield {name: fields[name][1].read(name, value) for name, value in asked.items()}
