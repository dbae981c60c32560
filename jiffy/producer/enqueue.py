"""The queues, and the door to them: a function and its arguments, made an RQ job.

What is put here travels as JSON, so that reading a job never runs code.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ParamSpec, Unpack, overload

import rq
from redis import Redis
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from jiffy import clock, connection, keys, redis_io, rq_compat
from jiffy.errors import DuplicateJob, InvalidValue, RedisAway, RedisFull
from jiffy.producer import bulk, functions, payload, project, workflows
from jiffy.producer import options as job_options
from jiffy.producer.job import Job as Job
from jiffy.producer.job import fill, made_of, stand_in
from jiffy.producer.recipe import Recipe, new_id
from jiffy.settings import settings

P = ParamSpec("P")

DEFAULT_QUEUES = ("high", "default", "low")
_Table = Mapping[str, Mapping[str, Any]]  # the usual options of functions, by their paths
# Of one job only, so nobody's usual option.
_OF_ONE_JOB = ("job_id", "at", "depends_on", "unique_key")


class Queue(rq.Queue):
    """RQ's queue, with JSON where RQ would take pickle."""

    job_class = Job

    def __init__(self, name: str = "default", *, serializer: Any = None, **options: Any) -> None:
        super().__init__(name, serializer=serializer or JSONSerializer, **options)


class Enqueue:
    """`enqueue(func, *args, **kwargs)`: put a call of `func` on a queue; return its RQ job.

    `usual` is what functions, or their paths, have as their usual options; without it, it is what
    the project declares (see the setting OPTIONS).  Nothing is written unless the call fits.
    Safe in threads and after a fork.

    Raises NotImportable, UnknownFunction, NotAllowed, BrokenModule, WrongArguments, CallTooLarge,
    InvalidValue, DuplicateJob; and where Redis stays away for seconds, RedisAway or RedisFull.
    """

    def __init__(self, usual: Mapping[Any, job_options.Options] | None = None) -> None:
        self._own = None if usual is None else _table(usual)
        self._given: Mapping[str, Any] = {}
        self._recipes: dict[Callable[..., object], tuple[Recipe, object]] = {}

    def options(self, **given: Unpack[job_options.Options]) -> "Enqueue":
        """The same with these options: `enqueue.options(queue="low", timeout="2m")(resize, …)`."""
        job_options.read(given)
        changed = Enqueue()
        changed._own = self._own
        changed._given = job_options.merged(self._given, given)
        return changed

    def without_usual(self, names: Collection[str]) -> "Enqueue":
        """The same where no function has these as its usual options."""
        table = self._usual
        if not any(name in usual for usual in table.values() for name in names):
            return self
        changed = Enqueue()
        changed._given = self._given
        changed._own = {
            path: {name: usual[name] for name in usual if name not in names}
            for path, usual in table.items()
        }
        return changed

    def __call__(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return _put(self._recipe(func), args, kwargs)[0]

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
        if recipe.job_id is not None:
            raise InvalidValue(
                "job_id", recipe.job_id, "left out, for `job_ids`: one for each call"
            )
        redis = connection.shared()
        order = bulk.Order(calls, job_ids, on_progress)
        if recipe.unique_ms or recipe.depends_on is not None:
            return Jobs(_one_by_one(recipe, order), recipe, redis)
        return Jobs(bulk.put(redis, recipe, order), recipe, redis)

    def chain(self, *parts: workflows.Part) -> list[Job]:
        """Run calls one after another; return their jobs, of which the last is to be waited for.

        `enqueue.chain(part(images.fetch, url), part(images.resize, result, 200))`: `result` is what
        the part before returned; it may stand inside lists and dicts.  Each part is enqueued when
        the one before has finished.  Where one fails for good, or is stopped, canceled or deleted,
        the rest is canceled, with that as the reason.  Written all at once or not at all.
        """
        return workflows.chain(parts, self._recipe_of)

    def group(
        self, parts: Iterable[workflows.Part], then: workflows.Then | None = None
    ) -> workflows.Group:
        """Run calls side by side, then `then`, once, when the last is over, however it ended.

        `enqueue.group([part(images.resize, path, 200) for path in paths], then=reports.write)`:
        `then` is a function, called with the results, or a part with `result` among its arguments.
        The results are one dict for each part, in order: `id`, `status` (finished, failed, stopped,
        canceled, or gone: it was deleted or ran out of its time), `result`, and `error`, the last
        line of the traceback.  Where they are over 5 MB together, `then` is canceled.

        All parts are checked before the first is written.  If this process dies in between, what is
        written runs, and `then` is canceled after some minutes.
        """
        return workflows.group(parts, then, self._recipe_of)

    def check(
        self, func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Raise what enqueueing this call would, as far as it is known before; write nothing."""
        self._recipe(func).call(args, kwargs)

    def make(
        self, func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Job:
        """The job of a checked call, written nowhere: what a tick of the schedule is a copy of."""
        recipe = self._recipe(func)
        fields = recipe.fields(recipe.call(args, kwargs), clock.rq_text(clock.wall()))
        job = made_of(fields, recipe.job_id or new_id(), _nowhere())
        job.enqueue_at_front = recipe.options.get("at_front") or None
        return job

    @property
    def _usual(self) -> "_Table":
        return _of_project(settings().options) if self._own is None else self._own

    def _recipe_of(self, part: workflows.Part, unfit: Collection[str]) -> Recipe:
        mine = self.options(**part.given) if part.given else self
        return mine.without_usual(unfit)._recipe(part.func)

    def _recipe(self, func: Callable[..., object]) -> Recipe:
        config = settings()
        try:
            recipe, made_for = self._recipes[func]
            if made_for is config:
                return recipe
        except (KeyError, TypeError):  # not hashable: `Recipe` says what is wrong with it
            pass
        usual = self._usual.get(payload.target(func).path, {})
        recipe = Recipe(func, job_options.merged(usual, self._given))
        self._recipes[func] = recipe, config
        return recipe


enqueue = Enqueue()
enqueue_many = enqueue.many


class Jobs(Sequence[Job]):
    """Jobs that were enqueued together, in order; each is made when it is asked for."""

    def __init__(self, put: bulk.Put, recipe: Recipe, redis: Redis) -> None:
        self.ids = put.ids
        # Where in `ids` those stand that were there before: nothing was written for them.
        self.places_taken = put.taken
        self._recipe, self._redis = recipe, redis

    @property
    def ids_taken(self) -> list[str]:
        """Those of `ids` that were there before."""
        return [self.ids[place] for place in self.places_taken]

    @property
    def queue(self) -> str:
        """The queue that they are on."""
        return self._recipe.queue

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [self._job(job_id) for job_id in self.ids[index]]
        return self._job(self.ids[index])

    def _job(self, job_id: str) -> Job:
        return _stand_in(job_id, self._recipe, self._redis, Job.refresh)


@lru_cache(maxsize=1)
def _nowhere() -> Redis:
    """A client for RQ's job, which asks for one; being made does not use it."""
    return Redis()


def check_options() -> None:
    """Read the project's OPTIONS now: what is wrong with them stops a process as it starts."""
    _of_project(settings().options)


@lru_cache(maxsize=1)
def _of_project(reference: str | None) -> _Table:
    """What the project declares.  Read late: its file imports functions, and these import us."""
    return _table(project.options(reference))


def _table(usual: Any) -> _Table:
    """By path: a function that is decorated may be there as more than one object."""
    if not isinstance(usual, Mapping):
        raise InvalidValue("OPTIONS", usual, "a dict of functions and their options(…)")
    return dict(_usual(key, given) for key, given in usual.items())


def _usual(key: Any, given: Any) -> tuple[str, Mapping[str, Any]]:
    """A line of the table: a function's path, and its usual options."""
    # Which modules are allowed is a setting; it is read when the first job is enqueued.
    function = functions.find(key, (key.partition(".")[0],)) if isinstance(key, str) else key
    payload.refuse_unnamed(function)
    path = functions.path_of(function)
    if not isinstance(given, Mapping):
        raise InvalidValue(f"what {path} has as usual", given, "options(…)")
    for name in _OF_ONE_JOB:
        if name in given:
            raise InvalidValue("option", name, "given with the job: it is no function's usual one")
    job_options.read(given)
    return path, given


def _put(
    recipe: Recipe, args: Sequence[Any], kwargs: Mapping[str, Any], given_id: str | None = None
) -> tuple[Job, bool]:
    """Check the call, then write the job to Redis; return it, and whether it is of this payload."""
    made = recipe.call(args, kwargs)
    given_id = given_id or recipe.job_id
    job_id, token = new_id(), ""
    if given_id is not None:
        job_id, token = given_id, job_id
    now = clock.rq_text(clock.wall())
    if not recipe.is_late and rq_compat.is_replaced(Queue, "enqueue_job"):
        return _put_wrapped(recipe, made, job_id, token, now)
    return _write(recipe, made, job_id, token, now)


def _put_wrapped(
    recipe: Recipe, made: payload.Call, job_id: str, token: str, now: str
) -> tuple[Job, bool]:
    """Write the job inside of what an integration (Sentry) has put around RQ's `enqueue_job`.

    What that writes into the job's meta, for the worker's side, goes with it.
    """
    redis, written = connection.shared(), list[tuple[Job, bool]]()

    def write(job: Job) -> None:
        meta = {"meta": json.dumps(job.meta)} if job.meta else {}
        written.append(_write(recipe.having(meta), made, job_id, token, now))

    job = made_of(recipe.fields(made, now), job_id, redis)
    queue = Queue(recipe.queue, connection=redis)
    rq_compat.enqueue_wrapped(queue, job, write, at_front=recipe.options.get("at_front", False))
    return written[-1] if written else (job, True)


def _write(
    recipe: Recipe, made: payload.Call, job_id: str, token: str, now: str
) -> tuple[Job, bool]:
    redis = connection.shared()
    if recipe.depends_on is not None:
        job = made_of(recipe.fields(made, now), job_id, redis)
        return _put_dependent(recipe, job, token), True
    answer = redis_io.deliver(redis, recipe.message(made, job_id, token, now), job_id)
    if answer == 0:
        raise DuplicateJob(job_id)
    if answer != 1:  # the same call was made before: its job stands for this one too
        return _stand_in(answer.decode(), recipe, redis, Job.refresh), False

    def tell(job: Job) -> None:
        fill(job, recipe.fields(made, now))

    return _stand_in(job_id, recipe, redis, tell), True


def _put_dependent(recipe: Recipe, job: Job, token: str) -> Job:
    """Write a job that waits for others; raises InvalidValue where one of them is not there."""
    now = clock.rq_text(clock.wall())
    job.process_dependencies(recipe.options["depends_on"])
    job.enqueued_at = None  # it is not, as long as it waits
    fields = job.to_dict() | {"status": JobStatus.DEFERRED.value}
    how = "LPUSH" if job.enqueue_at_front else "RPUSH"
    may_fail = "1" if job.allow_dependency_failures else ""
    others = json.loads(fields.get("dependency_ids", "[]"))
    words = [
        1, keys.queue(recipe.queue), recipe.queue, how, job.ttl or "", recipe.remembered_s, job.id,
        token, may_fail, now, len(others), *others,
        *(word for pair in fields.items() for word in pair),
    ]  # fmt: skip
    command = redis_io.prepacked("enqueue_dependent", len(words), redis_io.pack(words))
    answer = redis_io.deliver(job.connection, command, job.id)
    if answer == 0:
        raise DuplicateJob(job.id)
    if answer != 1:  # RQ would run it at once
        raise InvalidValue("depends_on", answer.decode(), "a job that is there")
    return _stand_in(job.id, recipe, job.connection, Job.refresh)


def _one_by_one(recipe: Recipe, order: bulk.Order) -> bulk.Put:
    """What many jobs at a time cannot be: each may be another's, or wait for others."""
    put = bulk.Put()
    for number, (args, kwargs) in enumerate(map(bulk.arguments, order.calls), start=1):
        given_id = order.next_id(number)
        try:
            job, is_new = _put(recipe, args, kwargs, given_id)
            job_id = job.id
        except DuplicateJob as error:
            job_id, is_new = error.job_id, False
        except (RedisAway, RedisFull) as error:
            raise error.after(len(put.ids)) from error
        if not is_new:
            put.taken.append(len(put.ids))
        put.ids.append(job_id)
        order.on_progress(number)
    return put


def _stand_in(job_id: str, recipe: Recipe, redis: Redis, tell: Callable[[Job], object]) -> Job:
    result_ttl = recipe.same.get("result_ttl")
    job: Job = stand_in(job_id, redis, tell, origin=recipe.queue, result_ttl=result_ttl)
    return job
