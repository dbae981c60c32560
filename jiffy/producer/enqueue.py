"""Enqueueing: `enqueue(func, …)`, its forms for many jobs and for workflows, and the usual options
that a project gives its functions.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from jiffy import hooks
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.producer import functions, payload, project, workflows
from jiffy.producer import options as job_options
from jiffy.producer.functions import Args, Function, Kwargs
from jiffy.producer.job import Job as Job
from jiffy.producer.job import Queue as Queue
from jiffy.producer.recipe import Prepared, Recipe, Written, new_id, put, write
from jiffy.settings import Settings, settings

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_QUEUES = ("high", "default", "low")
_MOST_KEPT = 1000  # recipes, or sets of options, of which one `Enqueue` remembers what it made
_LONGEST_KEPT = 300  # characters in them, such as those of a description
_OF_ONE_JOB = ("job_id", "at", "depends_on", "unique_key")  # so never usual options of a function


@dataclass(frozen=True)
class Both:
    """The arguments of one call: some positional, some by keyword."""

    args: Args
    kwargs: Kwargs


Arguments = Args | Kwargs | Both
_Usual = Mapping[str, Mapping[str, Any]]  # the usual options of functions, by their paths


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
        self._unused: Collection[str] = ()  # options that no function has as its usual ones
        self._made: dict[object, tuple[Any, object]] = {}

    def options(self, **given: Unpack[job_options.Options]) -> "Enqueue":
        """`enqueue` with these options: `enqueue.options(queue="low", timeout="2m")(resize, …)`."""

        def make() -> Enqueue:
            job_options.read(given)
            return self._with(_given=job_options.merged(self._given, given))

        length = sum(len(one) for one in given.values() if isinstance(one, str))
        # An hour that comes twice, as clocks go back: both times are equal in Python.  And jobs
        # would be kept, with their arguments and results.
        if length > _LONGEST_KEPT or "at" in given or "depends_on" in given:
            return make()
        # 1 == True, which is no duration
        return self._once((*given.items(), *map(type, given.values())), make)

    def without_usual(self, names: Collection[str]) -> "Enqueue":
        """`enqueue` where no function has these as its usual options."""
        return self._with(_unused={*self._unused, *names})

    def __call__(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Job:
        return put(self.prepare(func, args, kwargs))

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

        With `job_ids`, one for each call, repeating it after an interruption doubles nothing that
        is still there.
        """
        recipe = self._recipe(func)
        if given_id := recipe.options.get("job_id"):
            raise InvalidValue("job_id", given_id, "left out, for `job_ids`: one for each call")
        ids = None if job_ids is None else iter(job_ids)

        def prepared() -> Iterator[Prepared]:
            for number, one in enumerate(calls, start=1):
                call = recipe.call(*_arguments(one))
                if ids is None:
                    yield Prepared(recipe, call, new_id())
                    continue
                job_id = next(ids, None)
                if job_id is None:
                    raise WrongArguments(f"There is no job id for call {number}.")
                yield Prepared(recipe, call, job_options.read_id("job_id", job_id), True)

        return Jobs(write(prepared(), lambda done: on_progress(len(done.ids))), recipe)

    def chain(self, *parts: workflows.Part) -> list[Job]:
        """Run calls one after another; return their jobs, of which the last is to be waited for.

        `enqueue.chain(part(images.fetch, url), part(images.resize, result, 200))`: `result` is what
        the part before returned; it may stand inside lists and dicts.  Each part is enqueued when
        the one before has finished.  If one fails for good, or is stopped, canceled or deleted,
        the rest is canceled, with that as the reason.  Written all at once or not at all.
        """
        return workflows.chain(parts, self._recipe_of_part)

    def group(
        self, parts: Iterable[workflows.Part], then: workflows.Then | None = None
    ) -> workflows.Group:
        """Run calls side by side, then `then`, once, when the last has ended, whatever its outcome.

        `enqueue.group([part(images.resize, path, 200) for path in paths], then=reports.write)`:
        `then` is a function, called with the results, or a part with `result` among its arguments.
        The results are one dict for each part, in order: `id`, `status` (finished, failed, stopped,
        canceled, or gone: it was deleted or its time ran out), `result`, and `error`, the last
        line of the traceback.  If they are over 5 MB together, `then` is canceled.

        All parts are checked before the first is written.  If this process dies in between, what is
        written runs, and `then` is canceled after some minutes.
        """
        return workflows.group(parts, then, self._recipe_of_part)

    def _with(self, **changed: Any) -> "Enqueue":
        made = copy(self)
        vars(made).update(changed, _made={})
        return made

    def _recipe(self, func: Function) -> Recipe:
        def make() -> Recipe:
            usual = _of_project(settings().options) if self._own is None else self._own
            of_func = usual.get(payload.target(func).path, {})
            used = {name: of_func[name] for name in of_func if name not in self._unused}
            options = job_options.read(job_options.merged(used, self._given))
            return Recipe(func, options, self._around)

        return self._once(func, make)

    def _recipe_of_part(self, part: workflows.Part, unfit: Mapping[str, str]) -> Recipe:
        """`unfit`: the options that it must not have, and why; it has them not as usual ones."""
        chosen = self.options(**part.given) if part.given else self
        recipe = chosen._once(tuple(unfit), lambda: chosen.without_usual(unfit))._recipe(part.func)
        for name, why in unfit.items():
            if name in recipe.options:
                must = f"left out: {recipe.target.path} {why}"
                raise InvalidValue(name, chosen._given[name], must)
        return recipe

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returns, remembered as long as the settings are the same."""
        config = settings()
        try:
            value, made_for = self._made[key]
            if made_for is config:
                return value  # type: ignore[no-any-return]
        except (KeyError, TypeError):  # what cannot be hashed is made each time
            pass
        value = make()
        if len(self._made) >= _MOST_KEPT:
            self._made.clear()
        with suppress(TypeError):
            self._made[key] = value, config
        return value


enqueue = Enqueue()
enqueue_many = enqueue.many


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


def _arguments(call: Any) -> tuple[Args, Kwargs]:
    if isinstance(call, tuple | list):
        return call, {}
    if isinstance(call, dict):
        return (), call
    if isinstance(call, Both):
        return call.args, call.kwargs
    raise WrongArguments(
        f"{call!r} is not a call: write a tuple of arguments, such as ({call!r},), or a dict of "
        "keyword arguments."
    )


def check_project(*, needs_jobs: bool = False) -> None:
    """Find the modules of JOBS_MODULES and read OPTIONS now: a process with a wrong one must not
    start.  Unless it `needs_jobs`, it may do without the module that JOBS_MODULES is by default.
    """
    if needs_jobs or settings().jobs_modules != Settings.jobs_modules:
        project.check_modules(settings().jobs_modules)
    _of_project(settings().options)


def usual_of(path: str) -> Mapping[str, Any]:
    """What the project declares as the usual options of a function."""
    return _of_project(settings().options).get(path, {})


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
            raise InvalidValue(
                f"OPTIONS[{path}]", given, "options(…), such as options(queue='low')"
            )
        for name in _OF_ONE_JOB:
            if name in given:
                must = "given with each job: no two jobs can share it"
                raise InvalidValue("option", name, must)
        job_options.read(given)
        table[path] = given
    return table
