"""What is in Redis, in a form that can be compared between two runs.

`take` turns all keys into one flat dict: a path such as "rq:job:sum.status" and what is there.
Ids, times and process numbers, which no two runs share, become placeholders or distances from now.
"""

import json
import pickle
import re
import time
import zlib
from base64 import b64decode
from datetime import UTC, datetime

from jiffy import keys

# Two runs of one scenario may be this far apart in all that counts seconds, on a busy machine.
NEAR_S = 20
# The key under which a job keeps a picture of all that is there while it runs.
WHILE_RUNNING = "while-running"

_RANDOM_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?")
_DIFFERS_BY_NATURE = {"pid", "ip_address"}
_UNIX_TIMES = {"created_at", "last_heartbeat", "execution_started_at", "execution_ended_at"}
_FRAME_OF_A_JOB = re.compile(r'  File "[^"]*/(tests/compat/[^"]+)"')


class Seconds:
    """A number of seconds that equals its neighbours."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Seconds) and abs(self.value - other.value) <= NEAR_S

    __hash__ = None

    def __repr__(self):
        return f"{self.value:.1f} s"


def take(redis):
    """All that is in `redis`: path -> value."""
    found = {}
    for key in sorted(redis.keys()):
        name = _unique(_without_ids(key.decode()), found)
        kind = redis.type(key).decode()
        values = _READ[kind](redis, key) if kind != "none" else []
        ttl = redis.ttl(key)
        if ttl == -2:  # it has just expired
            continue
        found[name] = kind
        found[f"{name} ttl"] = "none" if ttl == -1 else Seconds(ttl)
        for path, value in values:
            found[_unique(f"{name}{path}", found)] = value
    return found


def differences(theirs, ours):
    """Paths whose values differ -> (theirs, ours); "-" stands for what is not there."""
    return {
        path: (theirs.get(path, "-"), ours.get(path, "-"))
        for path in sorted(theirs.keys() | ours.keys())
        if theirs.get(path, "-") != ours.get(path, "-")
    }


def _unique(path, found):
    """Two executions of one job look the same once their ids are gone: number them."""
    number, unique = 2, path
    while unique in found:
        number, unique = number + 1, f"{path} #{number}"
    return unique


def _without_ids(text):
    text = text.replace(keys.OWN, "jiffy:").replace(keys.RQ, "rq:")
    return _RANDOM_ID.sub("<id>", text)


def _string(redis, key):
    raw = redis.get(key) or b""
    if key.decode() != WHILE_RUNNING:
        return [(" value", _plain("", raw))]
    return [(f" {path}", value) for path, value in pickle.loads(raw).items()]


def _hash(redis, key):
    return [
        (f".{_text(name)}", _plain(_text(name), raw)) for name, raw in redis.hgetall(key).items()
    ]


def _list(redis, key):
    return [(f"[{index}]", _plain("", raw)) for index, raw in enumerate(redis.lrange(key, 0, -1))]


def _set(redis, key):
    return [(f"{{{_without_ids(_text(raw))}}}", "member") for raw in redis.smembers(key)]


def _zset(redis, key):
    return [
        (f"{{{_without_ids(_text(raw))}}}", _from_now(score))
        for raw, score in redis.zrange(key, 0, -1, withscores=True)
    ]


def _stream(redis, key):
    return [
        (f"[{index}].{_text(name)}", _plain(_text(name), raw))
        for index, (_, entry) in enumerate(redis.xrange(key))
        for name, raw in entry.items()
    ]


_READ = {
    "string": _string, "hash": _hash, "list": _list, "set": _set, "zset": _zset, "stream": _stream
}  # fmt: skip


def _plain(name, raw):
    """One value: opened, and without what differs between any two runs."""
    if name in _DIFFERS_BY_NATURE:
        return f"<{name}>"
    if name in ("data", "meta"):
        return _opened(raw)
    if name == "return_value":
        return _opened(b64decode(raw))
    if name == "exc_string":
        return _ISO_TIME.sub("<time>", _frames_of_jobs(zlib.decompress(b64decode(raw)).decode()))
    text = _text(raw)
    if name == "total_working_time" or (name in _UNIX_TIMES and _is_number(text)):
        return Seconds(float(text)) if name == "total_working_time" else _from_now(float(text))
    if _ISO_TIME.fullmatch(text):
        at = datetime.fromisoformat(text)
        return _from_now(at.replace(tzinfo=at.tzinfo or UTC).timestamp())
    return _without_ids(_ISO_TIME.sub("<time>", text))


def _from_now(unix_time):
    """Times stand as distances from now; a score that is no time stays what it is."""
    is_time = 1e9 < unix_time < 1e10
    return Seconds(unix_time - time.time()) if is_time else unix_time


def _is_number(text):
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def _opened(raw):
    """What was serialized, as text; packed or not, JSON or pickle."""
    if raw[:1] == b"\x78":
        raw = zlib.decompress(raw)
    try:
        return repr(pickle.loads(raw) if raw[:1] == b"\x80" else json.loads(raw))
    except ValueError:
        return repr(raw)


def _frames_of_jobs(text):
    """A traceback's first and last line and the frames in the job's own code: the rest is the
    worker's, and no two workers are alike there.
    """
    lines = text.splitlines()
    kept = [
        f"{match[1]}: {lines[index + 1].strip()}"
        for index, line in enumerate(lines)
        if (match := _FRAME_OF_A_JOB.match(line))
    ]
    return "\n".join([*lines[:1], *kept, *lines[-1:]])


def _text(raw):
    return raw.decode("utf-8", "backslashreplace")
