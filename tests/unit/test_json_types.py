"""JSON is read strictly, and a value that does not fit a type is found and named."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from jiffy import json_types
from jiffy.errors import ValidationError

Moment = Annotated[datetime, Meta(tz=True)]


@dataclass
class Size:
    width: int
    unit: Literal["cm", "in"] = "cm"


class Frame(Struct):
    name: Annotated[str, Meta(min_length=1)]
    size: Size | None = None
    tags: dict[str, list[int]] = {}
    made: Moment | UnsetType = UNSET
    corner: tuple[int, str] = (0, "")
    user_id: float = 0


NAMED: dict[str, Any] = {"name": "a"}


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        (5, "value is 5; it must be an object.", ()),
        ({}, "name is None; it must be a string.", ("name",)),
        ({"name": ""}, "name is ''; it must be a string of length >= 1.", ("name",)),
        (NAMED | {"user_id": True}, "user_id is True; it must be a number.", ("user_id",)),
        (NAMED | {"size": {"width": "5"}}, "size.width is '5'; it must be a whole number.",
         ("size", "width")),
        (NAMED | {"size": 5}, "size is 5; it must be an object or null.", ("size",)),
        (NAMED | {"size": {"width": 5, "unit": "m"}}, "size.unit is 'm'; it must be 'cm' or 'in'.",
         ("size", "unit")),
        (NAMED | {"size": {"width": 5, "units": "cm"}},
         "key is 'units'; it must be one of width, unit (did you mean 'unit'?).",
         ("size", "units")),
        (NAMED | {"tags": {"a": [1], "b.c": [2, None]}},
         "tags.b.c[1] is None; it must be a whole number.", ("tags", "b.c", 1)),
        (NAMED | {"corner": [1, 2]}, "corner[1] is 2; it must be a string.", ("corner", 1)),
        (NAMED | {"corner": [1]}, "corner is [1]; it must be a list of length 2.", ("corner",)),
        (NAMED | {"made": "2030-01-31"}, "such as '2030-01-31T06:00:00Z'.", ("made",)),
        (NAMED | {"id": 5}, "(did you mean 'user_id'?).", ("id",)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_path_and_value(value, message, path):
    with pytest.raises(ValidationError) as refused:
        json_types.convert(value, Frame)

    assert str(refused.value).endswith(message)
    assert refused.value.path == path
