"""What stands among a job's arguments for a result that is not there yet."""

from typing import Any


class Placeholder(dict[str, bool]):
    """`result` in a part of a chain or group: it travels as a small JSON object, at any depth.

    `join.lua` puts the value in its place when it is there; then it is a job like any other.
    """

    def __repr__(self) -> str:
        return "result"


# Whatever an argument is to be, a result may be.
result: Any = Placeholder({"jiffy:result": True})
# In a job's data.  Quotes inside JSON's texts are escaped, so this stands nowhere else.
MARK = '{"jiffy:result": true}'
