"""A job as our workers read it: nothing in Redis chooses the code that is run.

A name becomes a function only if it is under JOBS_MODULES, whichever of RQ's methods asks for it;
and nothing is unpickled unless SERIALIZERS allows it.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
from redis import Redis
from rq.exceptions import DeserializationError
from rq.job import Job as RqJob
from rq.serializers import DefaultSerializer, JSONSerializer

from jiffy import rq_compat
from jiffy.producer import functions
from jiffy.producer.job import Job
from jiffy.producer.progress import write_if_there
from jiffy.settings import settings
from jiffy.worker import process

PICKLED = (
    "This job is pickled and was not read: unpickling can run any code. Enqueue it with RQ's "
    "JSONSerializer, or set SERIALIZERS=json,pickle if you trust everyone who can write to this "
    "Redis."
)
# Of a job's data when it is not compressed: a few hundred kB in Redis may stand for gigabytes.
_MOST_BYTES = 100 << 20
# Of values in that, beyond one for each byte in Redis: `{},` alone takes 72 bytes of memory.
_MOST_VALUES = 2_000_000
CALLBACKS = ("success", "failure", "stopped")  # when RQ's jobs call one
_PICKLE = b"\x80"  # how every pickle since protocol 2 begins, and JSON never does


def inflated(data: bytes) -> bytes:
    """RQ compresses, and reads what is not compressed.  Raises DeserializationError."""
    if data[:1] == b"x":  # zlib's mark
        with suppress(zlib.error):
            inflater = zlib.decompressobj()
            found = inflater.decompress(data, _MOST_BYTES)
            if inflater.unconsumed_tail:
                raise DeserializationError(f"This job's data is over {_MOST_BYTES >> 20} MB.")
            values = 0 if is_pickled(found) else sum(map(found.count, (b"[", b"{", b",")))
            if values > _MOST_VALUES + len(data):
                raise DeserializationError(f"This job's data has {values:,} values.")
            return found
    return data


def is_pickled(data: bytes) -> bool:
    """Whether it is a pickle, not JSON, by its first byte (`data` is inflated)."""
    return data[:1] == _PICKLE


def loads_json(data: bytes) -> Any:
    """What RQ's JSONSerializer reads, in a quarter of the time."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):  # NaN, a lone surrogate: only Python reads those
        return JSONSerializer.loads(data)


def dumps_json(value: Any) -> bytes:
    """What RQ's JSONSerializer writes, in a fifth of the time for what is small."""
    return "".join(_json_pieces(value, 0)).encode()


def _refused(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# json.dumps makes one of these at each call.  It does not look for circles, but for their depth.
_json_pieces: Any = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _refused, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True
)


def function(path: str, modules: tuple[str, ...]) -> functions.Function:
    """The function at `path`; nothing is imported for one that is not under `modules`.

    Raises NotAllowed, UnknownFunction or BrokenModule.
    """
    if path == f"{functions.OWN}.act":
        modules = (functions.OWN,)
    functions.check_path(path, modules)
    return functions.find(path, modules)


def method(instance: object, name: str, modules: tuple[str, ...]) -> Callable[..., Any]:
    """The method of a pickled object, if its class is under `modules`; else NotAllowed.

    RQ also sends a class like this, with the name of a class method.
    """
    kind = instance if isinstance(instance, type) else type(instance)
    path = f"{kind.__module__}.{kind.__qualname__}.{name}"
    if kind is instance:
        return function(path, modules)
    functions.check_path(path.removesuffix(".__call__"), modules)
    return getattr(instance, name)  # type: ignore[no-any-return]


def _callback(when: str) -> Any:
    """The property of a job that is its callback, if that is allowed; else it raises NotAllowed."""

    def find(job: "GuardedJob") -> functions.Function | None:
        name = job.callbacks.get(when)
        return function(name, settings().jobs_modules) if name else None

    return property(find)


class _IfThere:
    """A connection to save a job on that was perhaps deleted while it runs."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def hset(self, key: str, mapping: Mapping[str, Any]) -> None:
        write_if_there(self._connection, key, mapping)


class GuardedJob(rq_compat.HookedJob, Job):
    """RQ's job, of which only what is allowed is imported or unpickled."""

    callbacks: Mapping[str, str] = MappingProxyType({})  # when -> the path of a function
    success_callback, failure_callback, stopped_callback = map(_callback, CALLBACKS)

    def restore(self, raw_data: Any) -> Any:
        """Its serializer is the one that its data was made with: its meta and result are, too."""
        data = inflated(raw_data.get(b"data") or b"")
        for name in {b"data", b"exc_info"} & raw_data.keys():
            # Or RQ would inflate it, however large that is.
            raw_data = {**raw_data, name: inflated(raw_data[name])}
        unpickles = "pickle" in settings().serializers and is_pickled(data)
        self.serializer = DefaultSerializer if unpickles else JSONSerializer
        self.callbacks = {
            when: name.decode()
            for when in CALLBACKS
            if (name := raw_data.get(f"{when}_callback_name".encode()))
        }
        return super().restore(raw_data)

    def save(self, pipeline: Any = None, *given: Any, **named: Any) -> None:
        there: Any = _IfThere(self.connection)
        super().save(there if pipeline is None else pipeline, *given, **named)

    def save_meta(self) -> None:
        write_if_there(self.connection, self.key, {"meta": rq_compat.meta_of(self)})

    @property
    def func(self) -> Any:
        name, modules = str(self.func_name), settings().jobs_modules
        if self.instance:
            return method(self.instance, name, modules)
        return functions.typed(function(name, modules))

    def after_function(self, pid: int) -> None:
        process.end_copy(pid)


@cache
def guarded(job_class: type[RqJob]) -> type[GuardedJob]:
    """A subclass of `job_class` that imports and unpickles only what is allowed."""
    if issubclass(GuardedJob, job_class):
        return GuardedJob
    if issubclass(job_class, GuardedJob):
        return job_class
    return type(job_class.__name__, (GuardedJob, job_class), {"__module__": job_class.__module__})
