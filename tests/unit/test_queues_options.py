"""Options are checked where they are written: by mypy, and when the program runs."""

import gc
import re
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
import rq
import rq.job
from redis import Redis

from jiffy import Enqueue, Retry, enqueue, options
from jiffy.errors import (
    CallTooLarge,
    InvalidValue,
    NotImportable,
    UnknownFunction,
    WrongArguments,
)
from jiffy.producer.options import TABLE, Options, from_json
from jobs import numbers
from tests.jobs import enqueue as enqueue_jobs
from tests.support.newcomer import CHECKOUT
from tests.support.unwritten import job_of

TYPED = """\
from datetime import datetime
from enqueue import enqueue
from jiffy import Enqueue, Retry, options, part, result, wait
from jobs import numbers

def bill(at: datetime, sizes: dict[int, set[str]], first: bool = False) -> None: ...

enqueue(bill, datetime.now(), {1: {"a"}}, first=True)
part(bill, datetime.now(), {})
jobs = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 10))
enqueue.options(depends_on=jobs)(numbers.add, 2, 3)
enqueue.options(depends_on=("a", jobs[0]))(numbers.add, 2, 3)
many = enqueue.many(numbers.add, [(1, 2)])
wait(many[0]), many[0].id.upper(), many[:2][0].id.upper()
enqueue.group([part(numbers.add, 2, 3)], then=part(numbers.add, result, 3))
enqueue.options(retry=Retry(3), on_success="jobs.orders.count_paid")
enqueue.options(timeout=-1, result_ttl="0s", failure_ttl=0)
enqueue(numbers.add, 2, y=3)
enqueue.options(queue="low", timeout="2m", retry=3)(numbers.add, 2, 3)
enqueue.options(retry=Retry(max=3, pause="2s", on=(OSError, "a.B"), fatal=ValueError))
Enqueue({numbers.add: options(queue="low", unique_until="done", unique=60)})
enqueue.many(numbers.add, [(1, 2), {"x": 1, "y": 2}])
enqueue(numbers.add, 2, z=3)  # wrong
enqueue(numbers.add, "two", 3)  # wrong
enqueue(bill, "now", {})  # wrong
enqueue(bill, datetime.now(), {"1": {"a"}})  # wrong
part(bill, datetime.now(), {}, first="yes")  # wrong
enqueue.options(quue="low")  # wrong
enqueue.options(at_front="yes")  # wrong
options(unique_until="soon")  # wrong
options(at="tomorrow")  # wrong
enqueue.options(depends_on=[5])  # wrong
many[0].no_such_thing  # wrong
part(numbers.add, "two", result)  # wrong
"""


def test_the_table_has_each_option_that_type_checkers_know():
    assert [*TABLE] == [*Options.__annotations__]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        # RQ's own keys of the limit "acme", and of the queue "low": they would hold something else.
        ({"rate_limit": "acme:allowed:1"}, "rate_limit is 'acme:allowed:1'; it must be a key and"),
        ({"rate_limit": "acme:rate_limited:1"}, "rate_limit is 'acme:rate_limited:1'; it must be"),
        *(
            ({"queue": name}, f"queue is {name!r}; it must be another name: its page")
            for name in ("/default", "./default", "..", "a//b", "../schedule/nightly", "low/")
        ),
        ({"queue": "low:intermediate"}, "queue is 'low:intermediate'; it must be"),
        ({"queue": "tries"}, "queue is 'tries'; it must be"),
        ({"depends_on": "job-1:dependents"}, "depends_on is 'job-1:dependents'; it must be"),
        ({"depends_on": ["a b"]}, "depends_on is 'a b'; it must be"),
        # A page shows, and a script of Redis looks at, each of these.
        ({"rate_limit": f"{'k' * 201}:1"}, "rate_limit is 'kkk"),
        ({"job_id": "j" * 251}, "job_id is 'jjj"),
        (
            {"depends_on": [f"{n}" for n in range(10_001)]},
            "depends_on is 10001; it must be 10000",
        ),
    ],
)
def test_a_name_that_would_hurt_other_jobs_is_refused(given, words):
    with pytest.raises(InvalidValue) as refusal:
        from_json(given)

    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"queue": "q\n"}, "queue is 'q\\n'; it must be the name of a queue, without commas and"),
        ({"queue": "a\0"}, "queue is 'a\\x00'; it must be the name of a queue, without commas"),
        ({"timeout": 0}, "timeout is 0; it must be more than 0 seconds"),
        ({"timeout": timedelta(seconds=-1)}, "timeout is datetime.timedelta(days=-1"),
        ({"ttl": 0}, "ttl is 0; it must be more than 0 seconds"),
        ({"expires": 0}, "expires is 0; it must be more than 0 seconds"),
        ({"expires": "1m", "ttl": 60}, "ttl is 60; it must be given without expires"),
        ({"at": datetime(2999, 1, 1)}, "at is '2999-01-01T00:00:00'; it must be a time with its"),  # noqa: DTZ001
        ({"depends_on": 5}, "depends_on is 5; it must be a job"),
        ({"meta": {"at": object()}}, "meta is {'at': <object"),
        ({"meta": {"a": {1: 2}}}, "meta is {'a': {1: 2}}; it must be a dict that JSON can"),
        ({"rescue": "no"}, "rescue is 'no'; it must be true or false"),
        ({"unique": 0}, "unique is 0; it must be more than 0 seconds"),
        ({"unique": "1h", "unique_until": "soon"}, "unique_until is 'soon'; it must be 'begun'"),
        ({"unique_key": "order-7"}, "unique_key is 'order-7'; it must be given with unique"),
        ({"unique": "1h", "rate_limit": "a:5"}, "unique is '1h'; it must be given without rate_"),
        *[
            ({"rate_limit": odd}, f"rate_limit is {odd!r}; it must be a key and how many")
            for odd in ("stripe", "stripe:0", ":5", 5, {"key": "stripe", "concurrency": True})
        ],
    ],
)
def test_a_wrong_option_is_refused_in_words(given, words):
    with pytest.raises(InvalidValue) as refusal:
        enqueue.options(**given)

    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"timeout": 0.4}, {"timeout": 1}),
        ({"timeout": "-1"}, {"timeout": -1}),
        ({"result_ttl": "-1", "failure_ttl": "0"}, {"result_ttl": -1, "failure_ttl": 0}),
        ({"result_ttl": "0s", "failure_ttl": timedelta()}, {"result_ttl": 0, "failure_ttl": 0}),
        ({"failure_ttl": timedelta(days=1), "result_ttl": -1}, {"failure_ttl": 86400}),
        ({"retry": rq.Retry(2, [1, 5])}, {"retries_left": 2, "retry_intervals": [1, 5]}),
        ({"retry": Retry(max=2, pause=5)}, {"retries_left": 2, "retry_intervals": [5, 10]}),
        (
            {"on_failure": "tests.jobs.enqueue.heard"},
            {"_failure_callback_name": "tests.jobs.enqueue.heard"},
        ),
        ({"rescue": False}, {"own_fields": {"jiffy:rescue": "no"}}),
    ],
)  # fmt: skip
def test_options_are_those_of_the_job(given, stored, environ):
    environ(JOBS_MODULES="jobs,tests")
    job = job_of(enqueue.options(**given))

    assert {name: getattr(job, name) for name in stored} == stored


def test_a_functions_usual_options_are_taken_unless_the_call_has_its_own():
    mine = Enqueue({numbers.add: options(queue="low", timeout="1m")})
    usual = job_of(mine)
    own = job_of(mine.options(timeout="2m"))
    none = mine.options(timeout="2m").options(timeout=None, queue=None)
    left = job_of(none)

    assert (usual.origin, usual.timeout) == ("low", 60)
    assert (own.origin, own.timeout) == ("low", 120)
    assert (left.origin, left.timeout) == ("low", 120)


@pytest.mark.parametrize("key", ["tests.jobs.enqueue.add", enqueue_jobs.cached])
def test_the_table_knows_a_function_by_its_path(key, environ):
    environ(JOBS_MODULES="tests")

    assert job_of(Enqueue({key: options(queue="low")}), enqueue_jobs.add).origin == "low"


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ({"jobs.numbers.ad": {}}, UnknownFunction, "Did you mean 'jobs.numbers.add'"),
        ({"jobs": {}}, UnknownFunction, "No function 'jobs'"),
        ({lambda: None: {}}, NotImportable, "is a lambda"),
        ({5: {}}, NotImportable, "5 is not a function"),
        ({numbers.add: None}, InvalidValue, "OPTIONS[jobs.numbers.add] is None; it must be"),
        ({numbers.add: {"job_id": "one"}}, InvalidValue, "job_id"),
        ({numbers.add: {"timeout": "soon"}}, InvalidValue, "timeout is 'soon'"),
    ],
)
def test_what_makes_no_sense_in_the_table_is_refused(table, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Enqueue(table)


@pytest.mark.parametrize(
    ("usual", "given"),
    [
        ({"in_": "5m"}, {"at": datetime(2999, 1, 1, tzinfo=UTC)}),
        ({"ttl": "1h"}, {"expires": "1h"}),
        ({"expires": "1h"}, {"ttl": "1h"}),
        ({"unique": "1h", "unique_until": "done", "in_": "5m"}, {"depends_on": "another"}),
    ],
)
def test_what_a_call_says_goes_before_the_usual_that_it_excludes(usual, given):
    mine = Enqueue({numbers.add: usual})

    assert job_of(mine.options(**given))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"on_success": "tests.jobs.enqueue.add"}, "on_success is called with job, connection, re"),
        ({"on_failure": "tests.jobs.enqueue.add"}, "on_failure is called with job, connection, ty"),
        ({"on_stopped": enqueue_jobs.nothing}, "on_stopped is called with job, connection: nothi"),
        ({"on_success": rq.Callback(enqueue_jobs.nothing)}, "on_success is called with job, conn"),
    ],
)
def test_a_callback_that_cannot_take_its_arguments_is_refused(given, words, environ):
    environ(JOBS_MODULES="tests")
    with pytest.raises(WrongArguments, match=f"^{words}"):
        enqueue.options(**given)


def test_options_that_equal_others_are_checked_too():
    with pytest.raises(InvalidValue):  # 1 == True
        enqueue.options(retry=1).options(retry=True)


@pytest.mark.parametrize("name", ["meta", "description"])
def test_what_a_job_carries_besides_its_arguments_is_limited_too(name, environ):
    environ(JOB_MAX_BYTES="1000")
    text = "x" * 2000
    given = {"meta": {"text": text}} if name == "meta" else {"description": text}
    with pytest.raises(CallTooLarge, match=f"at most 1,000 are allowed.*Most of it is '{name}'"):
        job_of(enqueue.options(**given))


def test_long_options_and_names_do_not_stay_in_memory(environ):
    environ(JOBS_MODULES="tests")

    def prepare(number):
        text = f"{number + 1}" + "x" * 100_000
        of_text = enqueue.options(description=text, timeout=text.replace("x", " "))
        of_text.prepare(enqueue_jobs.collect, ({text: 1},), {})
        parent = rq.job.Job.create(enqueue_jobs.collect, [[text]], connection=Redis())
        for one in text, parent:
            enqueue.options(depends_on=one).prepare(enqueue_jobs.collect, ([],), {})

    prepare(0)
    tracemalloc.start()
    for number in range(1, 20):
        prepare(number)
    gc.collect()
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept_bytes < 500_000


@pytest.mark.slow
def test_mypy_sees_wrong_arguments_and_wrong_options(tmp_path):
    (tmp_path / "typed.py").write_text(TYPED)
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", tmp_path / "typed.py"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    of_ours = [line for line in found.stdout.splitlines() if "typed.py" in line]
    refused = {int(line.split(":")[1]) for line in of_ours if "error:" in line}
    wrong = {n for n, line in enumerate(TYPED.splitlines(), start=1) if line.endswith("# wrong")}

    assert refused == wrong, found.stdout
