"""Hooks: a project's context managers around each job, a child's life, and each `enqueue`.

They are functions in a list, called in its order: nothing registers itself, and no list costs
nothing.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from jiffy import log
from jiffy.errors import InvalidValue
from jiffy.tracebacks import HOOK_NOTE

T = TypeVar("T")
AroundJob = Callable[[Any], AbstractContextManager[Any]]  # given RQ's job, or our subclass
AroundChild = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Hooks:
    """What workers do around jobs.  The first of a list is the outermost context.

    `around_job` are called with each job, in the child that runs it and under the job's limit.
    `around_child` are entered before a child's first job, and left after its last.
    """

    around_job: Sequence[AroundJob] = ()
    around_child: Sequence[AroundChild] = ()


NO_HOOKS = Hooks()


def checked(hooks: object) -> Hooks:
    """`hooks`, if they are; raises InvalidValue."""
    if not isinstance(hooks, Hooks):
        must = "Hooks(around_job=[…], around_child=[…])"
        raise InvalidValue("HOOKS", hooks, must)
    check("around_job", hooks.around_job)
    check("around_child", hooks.around_child)
    return hooks


def check(name: str, hooks: object) -> None:
    """Raise InvalidValue unless `hooks` can be called for contexts; `name` is what they are to."""
    must = "a function that returns a context manager"
    if not isinstance(hooks, list | tuple):
        raise InvalidValue(name, hooks, f"a list, each item {must}")
    for number, hook in enumerate(hooks, start=1):
        if inspect.isgeneratorfunction(hook):
            raise InvalidValue(f"{name}, hook {number},", _name(hook), "under @contextmanager")
        if not callable(hook):
            raise InvalidValue(f"{name}, hook {number},", hook, must)


def inside(hooks: Sequence[AroundJob], job: Any, call: Callable[[], T]) -> T:
    """Return what `call` returns, inside the contexts of `hooks`.

    An exception that one of them swallows or replaces is logged, and raised with a note on that.
    """
    if not hooks:
        return call()
    hook, *inner = hooks
    error: BaseException | None = None
    try:
        with _context(hook, job):
            try:
                value = inside(inner, job, call)
            except BaseException as raised:
                error = raised
                raise
    except BaseException as raised:
        # What ends a job from outside (a shutdown, a stop) may also come as the hook is left.
        if error is None or raised is error or not isinstance(raised, Exception):
            raise
        deed = f"replaced it with {type(raised).__name__}: {raised}"
    else:
        if error is None:
            return value
        deed = "swallowed it"
    note = f"{HOOK_NOTE}{_name(hook)} {deed}"
    log.event("hook.misbehaved", log.WARNING, job=job.id, reason=note)
    error.add_note(note)
    raise error


@contextmanager
def around_child(hooks: Hooks) -> Iterator[None]:
    """The contexts of a child's life.  What one raises at the end is logged: the jobs are done."""
    with ExitStack() as entering:
        for hook in hooks.around_child:
            entering.enter_context(_context(hook))
        entered = entering.pop_all()
    try:
        yield
    finally:
        try:
            entered.close()
        except Exception as error:  # noqa: BLE001 - a hook may raise anything
            log.event("hook.failed", log.ERROR, reason=repr(error))


def _context(hook: Callable[..., Any], *args: Any) -> AbstractContextManager[Any]:
    context: Any = hook(*args)
    if not hasattr(context, "__exit__"):
        raise InvalidValue(f"{_name(hook)}()", context, "a context manager")
    return context  # type: ignore[no-any-return]


def _name(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)
