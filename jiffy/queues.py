"""The queues, and the door to them: a function and its arguments, made an RQ job.

What is put here travels as JSON, so that reading a job never runs code.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec

import rq
import rq.job
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.serializers import JSONSerializer

from jiffy import bulk, clock, connection, delivery, functions, job_options
from jiffy.call import Call
from jiffy.errors import DuplicateJob, InvalidValue
from jiffy.recipe import Recipe, new_id
from jiffy.settings import settings

if TYPE_CHECKING:  # in Python from 3.12 only; nothing of it is needed to run
    from typing_extensions import Unpack

P = ParamSpec("P")

DEFAULT_QUEUES = ("high", "default", "low")
# Of one job only, so nobody's usual option.
_OF_ONE_JOB = ("job_id", "at", "depends_on", "unique_key")


class Job(rq.job.Job):
    """RQ's job, with JSON where RQ would take pickle."""

    # Fields of our own in its hash: RQ writes the hash and passes over them.
    own_fields: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: Redis | None = None,
        serializer: Any = None,
    ) -> None:
        super().__init__(id, connection, serializer or JSONSerializer)

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:
        return {**super().to_dict(include_meta, include_result), **self.own_fields}


class Queue(rq.Queue):
    """RQ's queue, with JSON where RQ would take pickle."""

    job_class = Job

    def __init__(self, name: str = "default", *, serializer: Any = None, **options: Any) -> None:
        super().__init__(name, serializer=serializer or JSONSerializer, **options)


class Enqueue:
    """`enqueue(func, *args, **kwargs)`: put a call of `func` on a queue; return its RQ job.

    `usual` is what functions have as their usual options.  Nothing is written unless the call fits.
    Safe in threads and after a fork.

    Raises NotImportable, UnknownFunction, NotAllowed, BrokenModule, WrongArguments, CallTooLarge,
    InvalidValue, DuplicateJob; and where Redis stays away for seconds, RedisAway or RedisFull.
    """

    def __init__(self, usual: Mapping[Any, job_options.Options] | None = None) -> None:
        self._usual = {function: _usual(given) for function, given in (usual or {}).items()}
        self._given: job_options.Options = {}
        self._recipes: dict[Callable[..., object], tuple[Recipe, object]] = {}

    def options(self, **given: "Unpack[job_options.Options]") -> "Enqueue":
        """The same with these options: `enqueue.options(queue="low", timeout="2m")(resize, …)`."""
        job_options.checked(given)
        changed = Enqueue()
        changed._usual, changed._given = self._usual, {**self._given, **given}
        return changed

    def __call__(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return _put(self._recipe(func), args, kwargs)

    def by_path(self, path: str, /, *args: Any, **kwargs: Any) -> Job:
        """The same for a function that is known by its path only."""
        return self(functions.find(path, settings().jobs_modules), *args, **kwargs)

    def many(
        self,
        func: Callable[..., object],
        calls: Iterable[bulk.Arguments],
        *,
        job_ids: Iterable[str] | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> "Jobs":
        """Put many calls of `func` on a queue: `enqueue.many(resize, [("a.jpg", 200), …])`.

        A call is a tuple or list of arguments, or a dict of them by name.  `calls` may be a
        generator without end: jobs are written in chunks as they come, and `on_progress` is told
        how many there are each time.  A call that does not fit ends it; what came before it is
        enqueued, as the error says.

        With `job_ids`, one for each call, repeating it after an interruption doubles nothing.
        """
        recipe = self._recipe(func)
        redis = connection.shared()
        order = bulk.Order(calls, job_ids, on_progress)
        if recipe.is_unique or recipe.depends_on is not None:
            return Jobs(_one_by_one(recipe, order), recipe, redis)
        return Jobs(bulk.put(redis, recipe, order), recipe, redis)

    def make(
        self, func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Job:
        """The job of a checked call, written nowhere: what a tick of the schedule is a copy of."""
        recipe = self._recipe(func)
        # RQ's job asks for a client; being made does not use it.
        job = _made(recipe, recipe.call(args, kwargs), recipe.job_id or new_id(), Redis())
        job.enqueue_at_front = recipe.options.get("at_front") or None
        return job

    def _recipe(self, func: Callable[..., object]) -> Recipe:
        config = settings()
        try:
            recipe, made_for = self._recipes[func]
            if made_for is config:
                return recipe
        except (KeyError, TypeError):  # not hashable: `Recipe` says what is wrong with it
            pass
        usual = self._usual.get(func, {}) if self._usual else {}
        recipe = Recipe(func, {**usual, **self._given})
        self._recipes[func] = recipe, config
        return recipe


enqueue = Enqueue()
enqueue_many = enqueue.many


class Jobs(Sequence[Job]):
    """Jobs that were enqueued together, in order; each is made when it is asked for."""

    def __init__(self, put: bulk.Put, recipe: Recipe, redis: Redis) -> None:
        self.ids = put.ids
        # Those of `ids` that were there before: nothing was written for them.
        self.ids_taken = put.taken
        self._recipe, self._redis = recipe, redis

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._job(job_id) for job_id in self.ids[index]]
        return self._job(self.ids[index])

    def _job(self, job_id: str) -> Job:
        return _stand_in(job_id, self._recipe, self._redis, Job.refresh)


def _usual(given: job_options.Options) -> job_options.Options:
    for name in _OF_ONE_JOB:
        if name in given:
            raise InvalidValue("option", name, "given with the job: it is no function's usual one")
    job_options.checked(given)
    return given


def _put(
    recipe: Recipe, args: Sequence[Any], kwargs: Mapping[str, Any], given_id: str | None = None
) -> Job:
    """Check the call, then write the job to Redis."""
    made = recipe.call(args, kwargs)
    redis = connection.shared()
    given_id = given_id or recipe.job_id
    job_id, token = new_id(), ""
    if given_id is not None:
        job_id, token = given_id, job_id
    if recipe.depends_on is not None:
        return _put_dependent(recipe, _made(recipe, made, job_id, redis))
    now = clock.rq_text(clock.wall())
    answer = delivery.deliver(redis, recipe.message(made, job_id, token, now))
    if answer == 0:
        raise DuplicateJob(job_id)
    if answer != 1:  # the same call was made before: its job stands for this one too
        return _stand_in(answer.decode(), recipe, redis, Job.refresh)
    return _stand_in(job_id, recipe, redis, lambda job: _fill(job, recipe.fields(made, now)))


def _put_dependent(recipe: Recipe, job: Job) -> Job:
    """Leave it to RQ: what waits for other jobs is written in several steps."""
    job.process_dependencies(recipe.options["depends_on"])
    queue = Queue(recipe.queue, connection=job.connection)
    try:
        for dependency_id in job.dependency_ids:
            if not Job.exists(dependency_id, job.connection):  # RQ would run it at once
                raise InvalidValue("depends_on", dependency_id, "a job that is there")
        if Job.exists(job.id, job.connection):
            raise DuplicateJob(job.id)
        queue.enqueue_job(job, at_front=bool(recipe.options.get("at_front")))
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise connection.away(error) from error
    return job


def _one_by_one(recipe: Recipe, order: bulk.Order) -> bulk.Put:
    """What many jobs at a time cannot be: each may be another's, or wait for others."""
    put = bulk.Put()
    for number, (args, kwargs) in enumerate(map(bulk.arguments, order.calls), start=1):
        given_id = order.next_id(number)
        try:
            put.ids.append(_put(recipe, args, kwargs, given_id).id)
        except DuplicateJob as error:
            put.ids.append(error.job_id)
            put.taken.append(error.job_id)
        order.on_progress(number)
    return put


def _made(recipe: Recipe, made: Call, job_id: str, redis: Redis) -> Job:
    job = Job(job_id, redis)
    _fill(job, recipe.fields(made, clock.rq_text(clock.wall())))
    return job


def _fill(job: Job, fields: Mapping[str, Any]) -> None:
    """Give `job` these fields, as if it had been read from Redis."""
    job.restore({name: str(value).encode("utf-8", "replace") for name, value in fields.items()})
    job.own_fields = {name: fields[name] for name in fields if name.startswith("jiffy:")}


def _stand_in(job_id: str, recipe: Recipe, redis: Redis, fill: Callable[[Job], object]) -> Job:
    lazy = _Lazy.__new__(_Lazy)
    lazy.__dict__.update(
        _id=job_id, origin=recipe.queue, result_ttl=recipe.same.get("result_ttl"),
        connection=redis, serializer=JSONSerializer, _fill=fill,
    )  # fmt: skip
    return lazy


class _Lazy(Job):
    """Becomes a real `Job` when it is first asked for more than it knows: most never are."""

    def __getattr__(self, name: str) -> Any:
        # Only called for what is missing: nearly all that RQ's `Job` keeps in its attributes.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._become_real(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._become_real(), name, value)

    def _become_real(self) -> Job:
        fill = self.__dict__.pop("_fill")
        object.__setattr__(self, "__class__", Job)
        self.__init__(self._id, self.connection)  # type: ignore[misc]
        fill(self)
        return self


_Lazy.__name__, _Lazy.__qualname__ = Job.__name__, Job.__qualname__
