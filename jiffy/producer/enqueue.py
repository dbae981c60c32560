"""Enqueueing: a function, its arguments and options become a job in Redis.

What is written here travels as JSON, so that reading a job never runs code.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, Unpack, overload

import rq
from redis import Redis
from rq.defaults import DEFAULT_RESULT_TTL
from rq.serializers import JSONSerializer

from jiffy import clock, hooks, keys, redis_io, rq_compat
from jiffy.errors import (
    CallTooLarge,
    DuplicateJob,
    InvalidValue,
    JiffyError,
    RedisAway,
    RedisFull,
    WrongArguments,
)
from jiffy.producer import functions, payload, project
from jiffy.producer import options as job_options
from jiffy.producer.functions import Args, Function, Kwargs
from jiffy.producer.job import Job as Job
from jiffy.producer.job import fill, made_of, stand_in
from jiffy.redis_io import pack
from jiffy.settings import settings

if TYPE_CHECKING:
    from jiffy.producer import workflows

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_QUEUES = ("high", "default", "low")
# A call whose reply was lost is repeated within seconds.  A job that may be gone by then is
# remembered for a minute; the others are known by their hash.
_REMEMBERED_S, _GONE_WITHIN_S = 60, 30
# Large enough that the round trip does not count, small enough that Redis is never held up long.
MOST_JOBS, MOST_BYTES = 1000, 1_000_000
LONGEST_S = 0.2  # jobs are written at least so often, however slowly the calls come
_MOST_KEPT = 1000  # recipes, or sets of options, of which one `Enqueue` remembers what it made
_OF_ONE_JOB = ("job_id", "at", "depends_on", "unique_key")  # so never usual options of a function


class Queue(rq.Queue):
    """RQ's queue, with JSON where RQ would take pickle."""

    job_class = Job

    def __init__(self, name: str = "default", *, serializer: Any = None, **options: Any) -> None:
        super().__init__(name, serializer=serializer or JSONSerializer, **options)


@dataclass(frozen=True)
class Both:
    """The arguments of one call: some positional, some by keyword."""

    args: Args
    kwargs: Kwargs


Arguments = Args | Kwargs | Both
_Usual = Mapping[str, Mapping[str, Any]]  # the usual options of functions, by their paths


class Recipe:
    """What all jobs of one function with the same options have in common, put together once."""

    def __init__(
        self, function: Function, options: Kwargs, around: Sequence[hooks.AroundJob] = ()
    ) -> None:
        """`options`: what `options.read` returns."""
        self.target, self.options, self.around = payload.target(function), options, around
        self._last_changed: tuple[str, Recipe] = "", self
        self.queue: str = options.get("queue", "default")
        self.is_late = "in_" in options or "at" in options
        self.parents = list[str]()
        self.fields = self._fields()
        texts = {"meta": self.fields.get("meta", ""), "description": options.get("description", "")}
        size, most = sum(map(len, texts.values())), self.target.most_bytes
        if size > most:
            largest = max(texts, key=lambda name: len(texts[name]))
            raise CallTooLarge(self.target.path, size, most, largest)
        self._pack()

    def having(self, fields: Kwargs) -> "Recipe":
        """A copy whose jobs have these fields, too."""
        changed = copy(self)
        changed.fields = {**self.fields, **fields}
        changed._pack()
        return changed

    def with_meta(self, meta: dict[str, Any]) -> "Recipe":
        """A copy whose jobs have this meta.  Equal ones in a row share it, and so one chunk."""
        written = json.dumps(job_options.read({"meta": meta})["meta"])
        last, changed = self._last_changed
        if written != last:
            changed = self.having({"meta": written})
            self._last_changed = written, changed
        return changed

    @property
    def is_wrapped(self) -> bool:
        """Whether something is called around the enqueueing of its jobs; see `wrapped`."""
        return bool(self.around) or rq_compat.is_replaced(Queue, "enqueue_job")

    def call(self, args: Args, kwargs: Kwargs, *, takes_results: bool = False) -> payload.Call:
        """The call, checked; `takes_results`: `result` may be among the arguments."""
        call = self.target.call(args, kwargs)
        if not takes_results and payload.MARK in call.data:
            raise WrongArguments(
                f"{self.target.path}: `result` is only for the parts of a chain or group; this "
                "call has no part before it."
            )
        described = self.options.get("description")
        return call if described is None else call._replace(description=described)

    def job_fields(self, call: payload.Call, now: str) -> dict[str, Any]:
        """The hash of a job.  Mirrors rq.Job.to_dict as rq.Queue.enqueue_job leaves it."""
        status = {"status": "queued", "enqueued_at": now}
        fields = {"origin": self.queue, "created_at": now, "data": call.data}
        fields |= {"status": "scheduled"} if self.is_late else status
        return fields | self.fields | {"description": call.description}

    def job(self, job_id: str, load: Callable[[Job], object] = Job.refresh) -> Job:
        """A job of this recipe, which `load` reads once more than its id is used."""
        job: Job = stand_in(
            job_id, redis_io.shared(), load, origin=self.queue,
            result_ttl=self.fields.get("result_ttl"), function=self.target.function,
        )  # fmt: skip
        return job

    def command(
        self, jobs: Sequence["Prepared"], token: str, now: str,
        needs: Sequence[object] = ("", "", 0, ""),
    ) -> bytes:  # fmt: skip
        """The command that writes jobs of this recipe; `needs`: see `enqueue_waiting.lua`."""
        # Written out where it can be: `pack` costs a lone job more than all of this.
        due = str(self._due()).encode() if self.is_late else b""
        words = [
            b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$27\r\n%b\r\n"
            % (self._head, len(token), token.encode(), len(due), due, now.encode())
        ]
        parts = list[str]()
        for _, (data, text), job_id, _ in jobs:
            size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            parts.append(
                f"${len(job_id)}\r\n{job_id}\r\n${len(data)}\r\n{data}\r\n${size}\r\n{text}\r\n"
            )
            if self.is_unique:
                given = self.options.get("unique_key")
                call = f"call {self.target.canonical(data)}" if given is None else ""
                what = call or f"key {self.target.path} {given}"
                key = keys.unique(hashlib.sha256(what.encode()).hexdigest()[:32])
                parts.append(f"${len(key)}\r\n{key}\r\n")
        words.append("".join(parts).encode("utf-8", "replace"))
        count = self._count + len(jobs) * (4 if self.is_unique else 3)
        script = "enqueue"
        if self.waits or needs[0]:
            script, count = "enqueue_waiting", count + len(needs)
            words.append(pack(needs))
        return redis_io.prepacked(script, count, b"".join(words))

    def _fields(self) -> dict[str, Any]:
        """Those that differ between options; the script writes those that are empty in each job."""
        options, fields = self.options, dict[str, Any]()
        for name, value in options.items():
            fields |= job_options.TABLE[name].fields(value)
        fields.setdefault("timeout", rq.Queue.DEFAULT_TIMEOUT)
        if "unique" in options and "unique_until" not in options:
            # For so long other calls are given its id: it must not be gone by then.
            unique_s = math.ceil(options["unique"])
            if unique_s > DEFAULT_RESULT_TTL:
                fields.setdefault("result_ttl", unique_s)
        is_front = options.get("at_front", False)
        if "depends_on" in options:
            now = clock.rq_text(clock.wall())
            job = made_of({"created_at": now, "data": "[]"}, "any", _nowhere())
            job.process_dependencies(options["depends_on"])
            is_front = is_front or job.enqueue_at_front
            written = job.to_dict()
            named = ("dependency_id", "dependency_ids", "allow_dependency_failures")
            fields |= {name: written[name] for name in named if name in written}
            self.parents = [keys.job(id_) for id_ in json.loads(written.get(named[1], "[]"))]
        self.waits = "depends_on" in options or ("rate_limit" in options and not self.is_late)
        if is_front and (self.is_late or self.waits):
            fields["enqueue_at_front"] = 1
        self._how = "ZADD" if self.is_late else "LPUSH" if is_front else "RPUSH"
        if self.target.secrets:
            fields[keys.MASKED_FIELD] = self.target.secrets
        return fields

    def _pack(self) -> None:
        options = self.options
        lasts = [options[ttl] for ttl in ("result_ttl", "failure_ttl", "ttl") if ttl in options]
        is_soon_gone = any(0 <= seconds < _GONE_WITHIN_S for seconds in lasts)
        self.is_unique = "unique" in options
        fields = [word for pair in self.fields.items() for word in pair]
        head = [
            1 + len(self.parents), keys.queue(self.queue), *self.parents, self.queue, self._how,
            options.get("ttl", ""), _REMEMBERED_S if is_soon_gone else "",
            round(options["unique"] * 1000) if self.is_unique else "",
            options.get("unique_until", ""), len(fields), *fields,
        ]  # fmt: skip
        self._head, self._count = pack(head), len(head) + 3

    def _due(self) -> int:
        # A whole second, as RQ keeps it, and never too early.
        at = self.options.get("at") or clock.now() + timedelta(seconds=self.options["in_"])
        return math.ceil(at.timestamp())


class Prepared(NamedTuple):
    """A call that was checked and is about to be written, as a job with this id."""

    recipe: Recipe
    call: payload.Call
    job_id: str
    is_named: bool = False  # the id is the caller's, so another job may have it

    def job(self) -> Job:
        return self.recipe.job(self.job_id)


class Enqueue:
    """`enqueue(func, *args, **kwargs)`: put a call of `func` on a queue; return its RQ job.

    `usual` is what functions, or their paths, have as their usual options; without it, it is what
    the project declares (see the setting OPTIONS).  Nothing is written unless the call fits.
    `around` are called with each job before it is written, for contexts in which it is: they may
    add to its `meta`.  Safe in threads and after a fork.

    Raises NotImportable, UnknownFunction, NotAllowed, BrokenModule, WrongArguments, CallTooLarge,
    InvalidValue, DuplicateJob; and where Redis stays away for seconds, RedisAway or RedisFull.
    """

    def __init__(
        self,
        usual: Mapping[Any, job_options.Options] | None = None,
        *,
        around: Sequence[hooks.AroundJob] = (),
    ) -> None:
        hooks.check("around", around)
        self._own = None if usual is None else _read_usual(usual)
        self._around = around
        self._given: Mapping[str, Any] = {}
        self._recipes: dict[Callable[..., object], tuple[Recipe, object]] = {}
        self._derived: dict[object, tuple[Enqueue, object]] = {}

    def options(self, **given: Unpack[job_options.Options]) -> "Enqueue":
        """`enqueue` with these options: `enqueue.options(queue="low", timeout="2m")(resize, …)`."""
        key = (*given.items(), *map(type, given.values()))  # 1 == True, which is no duration
        return _made_once(self._derived, key, lambda: self._with_options(given))

    def _with_options(self, given: Kwargs) -> "Enqueue":
        job_options.read(given)
        return self._with(self._own, job_options.merged(self._given, given))

    def without_usual(self, names: Collection[str]) -> "Enqueue":
        """`enqueue` where no function has these as its usual options."""
        kept = {
            path: {name: usual[name] for name in usual if name not in names}
            for path, usual in self._usual.items()
        }
        return self if kept == self._usual else self._with(kept, self._given)

    def _with(self, own: _Usual | None, given: Mapping[str, Any]) -> "Enqueue":
        changed = Enqueue(around=self._around)
        changed._own, changed._given = own, given
        return changed

    def __call__(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return _put(self.prepare(func, args, kwargs))

    def by_path(self, path: str, /, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a call of a function that is known by its path only."""
        return self(functions.find(path, settings().jobs_modules), *args, **kwargs)

    def prepare(
        self, func: Function, args: Args, kwargs: Kwargs, job_id: str | None = None
    ) -> Prepared:
        """Check a call as enqueueing does, and write nothing.  `job_id` replaces the option."""
        recipe = self._recipe(func)
        given_id = recipe.options.get("job_id") if job_id is None else job_id
        call = recipe.call(args, kwargs)
        return Prepared(recipe, call, given_id or new_id(), given_id is not None)

    def many(
        self,
        func: Function,
        calls: Iterable[Arguments],
        *,
        job_ids: Iterable[str] | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> "Jobs":
        """Put many calls of `func` on a queue: `enqueue.many(resize, [("a.jpg", 200), …])`.

        A call is a tuple or list of arguments, or a dict of keyword arguments.  `calls` may be a
        generator without end: jobs are written in chunks as they come, and `on_progress` is called
        with their number each time.  A call that does not fit ends it; those before it are
        enqueued, as the error says.

        With `job_ids`, one for each call, repeating it after an interruption doubles nothing.
        """
        recipe = self._recipe(func)
        if given_id := recipe.options.get("job_id"):
            raise InvalidValue("job_id", given_id, "left out, for `job_ids`: one for each call")
        ids = None if job_ids is None else iter(job_ids)

        def prepared() -> Iterator[Prepared]:
            for number, one in enumerate(calls, start=1):
                call = recipe.call(*_arguments(one))
                job_id = new_id() if ids is None else next(ids, None)
                if job_id is None:
                    raise WrongArguments(f"There is no job id for call {number}.")
                if ids is not None:
                    job_options.read_id("job_id", job_id)
                yield Prepared(recipe, call, job_id, ids is not None)

        return Jobs(write(prepared(), on_progress), recipe)

    def chain(self, *parts: "workflows.Part") -> list[Job]:
        """Run calls one after another; return their jobs, of which the last is to be waited for.

        `enqueue.chain(part(images.fetch, url), part(images.resize, result, 200))`: `result` is what
        the part before returned; it may stand inside lists and dicts.  Each part is enqueued when
        the one before has finished.  If one fails for good, or is stopped, canceled or deleted,
        the rest is canceled, with that as the reason.  Written all at once or not at all.
        """
        from jiffy.producer import workflows  # it enqueues by this module

        return workflows.chain(parts, self)

    def group(
        self, parts: Iterable["workflows.Part"], then: "workflows.Then | None" = None
    ) -> "workflows.Group":
        """Run calls side by side, then `then`, once, when the last has ended, whatever its outcome.

        `enqueue.group([part(images.resize, path, 200) for path in paths], then=reports.write)`:
        `then` is a function, called with the results, or a part with `result` among its arguments.
        The results are one dict for each part, in order: `id`, `status` (finished, failed, stopped,
        canceled, or gone: it was deleted or its time ran out), `result`, and `error`, the last
        line of the traceback.  If they are over 5 MB together, `then` is canceled.

        All parts are checked before the first is written.  If this process dies in between, what is
        written runs, and `then` is canceled after some minutes.
        """
        from jiffy.producer import workflows

        return workflows.group(parts, then, self)

    def make(self, func: Function, args: Args, kwargs: Kwargs) -> Job:
        """The job of a checked call, not written: a scheduled run is a copy of it."""
        recipe, call, job_id, _ = self.prepare(func, args, kwargs)
        job = made_of(recipe.job_fields(call, clock.rq_text(clock.wall())), job_id, _nowhere())
        job.enqueue_at_front = recipe.options.get("at_front") or None
        return job

    @property
    def _usual(self) -> _Usual:
        return _of_project(settings().options) if self._own is None else self._own

    def _recipe(self, func: Function) -> Recipe:
        return _made_once(self._recipes, func, lambda: self._new_recipe(func))

    def _new_recipe(self, func: Function) -> Recipe:
        usual = self._usual.get(payload.target(func).path, {})
        options = job_options.read(job_options.merged(usual, self._given))
        return Recipe(func, options, self._around)


def _made_once(made: dict[Any, tuple[T, object]], key: object, make: Callable[[], T]) -> T:
    """What `make` returns, remembered as long as the settings are the same."""
    config = settings()
    try:
        value, made_for = made[key]
        if made_for is config:
            return value
    except (KeyError, TypeError):  # what cannot be hashed is made each time
        pass
    value = make()
    if len(made) >= _MOST_KEPT:
        made.clear()
    with suppress(TypeError):
        made[key] = value, config
    return value


enqueue = Enqueue()
enqueue_many = enqueue.many


class Written(NamedTuple):
    """The ids of jobs in order, and the places, from 0, of those that were there before."""

    ids: list[str]
    taken: list[int]


class Jobs(Sequence[Job]):
    """The jobs of one `enqueue.many`, in order; each is made when it is used."""

    def __init__(self, written: Written, recipe: Recipe) -> None:
        self.ids, self.queue, self._recipe = written.ids, recipe.queue, recipe
        # Those that were there before: nothing was written for them.
        self.ids_taken = [written.ids[place] for place in written.taken]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [*map(self._recipe.job, self.ids[index])]
        return self._recipe.job(self.ids[index])


def write(
    prepared: Iterable[Prepared], on_progress: Callable[[int], None] = lambda _: None
) -> Written:
    """Write prepared calls, in chunks of those that are alike.

    What `prepared` raises ends it; those before are written, and a JiffyError says how many.
    """
    chunks = _Chunks(on_progress)
    try:
        for one in prepared:
            chunks.add(one)
    except (RedisAway, RedisFull):
        raise  # nothing more can be written
    except BaseException as error:
        with suppress(RedisAway, RedisFull):  # what has ended it is what is to be raised
            chunks.finish()
        count = len(chunks.written.ids)
        on_progress(count)  # it may be what was interrupted
        if isinstance(error, JiffyError):
            message = f"Call {count + 1:,}: {error} Enqueued before it: {count:,}."
            raise WrongArguments(message) from error
        raise
    chunks.finish()
    return chunks.written


class _Chunks:
    """Collects calls to chunks; while Redis writes one, the next is put together."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self._on_progress = on_progress
        self._ahead = redis_io.Ahead(redis_io.shared())
        self._chunk: list[Prepared] = []
        self._size_bytes, self._send_at = 0, 0.0
        self._underway: list[Prepared] = []
        self._is_wrapped = rq_compat.is_replaced(Queue, "enqueue_job")
        self.written = Written([], [])

    def add(self, one: Prepared) -> None:
        if self._is_wrapped or one.recipe.around:
            one = wrapped(one)
        if self._chunk:
            first = self._chunk[0]
            if one.recipe is not first.recipe or one.is_named != first.is_named:
                self._send()
        if not self._chunk:
            self._send_at = clock.monotonic() + LONGEST_S
        self._chunk.append(one)
        self._size_bytes += len(one.call.data)
        if (
            len(self._chunk) >= MOST_JOBS
            or self._size_bytes >= MOST_BYTES
            or clock.monotonic() >= self._send_at
        ):
            self._send()

    def finish(self) -> None:
        if self._chunk:
            self._send()
        self._receive()

    def _send(self) -> None:
        chunk, self._chunk, self._size_bytes = self._chunk, [], 0
        now, token = clock.rq_text(clock.wall()), new_id() if chunk[0].is_named else ""
        command = chunk[0].recipe.command(chunk, token, now)
        self._receive()
        self._underway = chunk
        self._ahead.send(command)

    def _receive(self) -> None:
        done, chunk = self.written, self._underway
        try:
            reply = self._ahead.reply()
        except (RedisAway, RedisFull) as error:
            changed: dict[str, Any] = {"count": len(done.ids)}
            if isinstance(error, RedisAway) and error.doubt:
                how = ("without ids of yours, they double", "with the same ids, none is doubled")
                may = f"the {len(chunk):,} under way may have been enqueued"
                changed["doubt"] = f"{may}; repeated {how[chunk[0].is_named]}."
            raise error.but(**changed) from error
        if reply is None:
            return
        if isinstance(reply, bytes):
            raise _no_parent(reply)
        first = len(done.ids)
        done.ids.extend(one.job_id for one in chunk)
        reply = [] if reply == 1 else reply
        for place, job_id in zip(reply[::2], reply[1::2], strict=True):
            done.ids[first + place] = job_id.decode()
            done.taken.append(first + place)
        self._underway = []
        self._on_progress(len(done.ids))


def wrapped(one: Prepared, write: Callable[[Prepared], None] = lambda _: None) -> Prepared:
    """Enter the contexts of `Enqueue.around`, then call what an integration (Sentry) has put around
    RQ's `enqueue_job`, and `write` inside all of it.

    Returns what is to be written: what they write into the job's meta, for the worker, goes with
    it.  RQ does not call `enqueue_job` for a job that is for later.
    """
    recipe, redis, changed = one.recipe, redis_io.shared(), one

    def note(job: Job) -> None:
        nonlocal changed
        if job.meta:
            changed = one._replace(recipe=recipe.with_meta(job.meta))
        write(changed)

    def enqueue_job() -> None:
        if recipe.is_late or not rq_compat.is_replaced(Queue, "enqueue_job"):
            note(job)
            return
        queue, at_front = Queue(recipe.queue, connection=redis), recipe.options.get("at_front")
        rq_compat.enqueue_wrapped(queue, job, note, at_front=bool(at_front))

    job = made_of(recipe.job_fields(one.call, clock.rq_text(clock.wall())), one.job_id, redis)
    hooks.inside(recipe.around, job, enqueue_job)
    return changed


def _put(one: Prepared) -> Job:
    if not one.recipe.is_wrapped:
        return _write_one(one)
    jobs = list[Job]()
    wrapped(one, lambda changed: jobs.append(_write_one(changed)))
    return jobs[-1] if jobs else _known(one, clock.rq_text(clock.wall()))  # it was kept back


def _write_one(one: Prepared) -> Job:
    recipe, now = one.recipe, clock.rq_text(clock.wall())
    command = recipe.command((one,), new_id() if one.is_named else "", now)
    reply = redis_io.deliver(redis_io.shared(), command, one.job_id)
    if reply == 1 or not reply:
        return one.job() if recipe.waits else _known(one, now)
    if isinstance(reply, bytes):  # RQ would run it at once
        raise _no_parent(reply)
    job_id = reply[1].decode()
    if job_id == one.job_id:
        raise DuplicateJob(job_id)
    return recipe.job(job_id)  # the same call was made before: its job stands for this one


def _known(one: Prepared, now: str) -> Job:
    """The job as it is written, which never asks Redis for that."""
    recipe = one.recipe
    return recipe.job(one.job_id, lambda job: fill(job, recipe.job_fields(one.call, now)))


def _no_parent(job_id: bytes) -> InvalidValue:
    return InvalidValue("depends_on", job_id.decode(), "a job that is there")


def _arguments(call: Any) -> tuple[Args, Kwargs]:
    if isinstance(call, tuple | list):
        return call, {}
    if isinstance(call, dict):
        return (), call
    if isinstance(call, Both):
        return call.args, call.kwargs
    raise WrongArguments(
        f"{call!r} is no call: write a tuple of arguments, such as ({call!r},), or a dict of "
        "keyword arguments."
    )


def new_id() -> str:
    """A random id in the form of RQ's."""
    raw = os.urandom(16).hex()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


@lru_cache(maxsize=1)
def _nowhere() -> Redis:
    """A client for RQ's job, which asks for one; being made does not use it."""
    return Redis()


def check_options() -> None:
    """Read the project's OPTIONS now: invalid ones stop a process as it starts."""
    _of_project(settings().options)


@lru_cache(maxsize=1)
def _of_project(reference: str | None) -> _Usual:
    """What the project declares.  Read late: its file imports functions, and these import us."""
    return _read_usual(project.options(reference))


def _read_usual(usual: Any) -> _Usual:
    """By path: a function that is decorated may be there as more than one object."""
    if not isinstance(usual, Mapping):
        raise InvalidValue("OPTIONS", usual, "a dict of functions and their options(…)")
    table = {}
    for key, given in usual.items():
        # Which modules are allowed is a setting; it is read when the first job is enqueued.
        func = functions.find(key, (key.partition(".")[0],)) if isinstance(key, str) else key
        payload.refuse_unnamed(func)
        path = functions.path_of(func)
        if not isinstance(given, Mapping):
            raise InvalidValue(f"what {path} has as usual", given, "options(…)")
        for name in _OF_ONE_JOB:
            if name in given:
                must = "given with the job: it is no function's usual one"
                raise InvalidValue("option", name, must)
        job_options.read(given)
        table[path] = given
    return table
