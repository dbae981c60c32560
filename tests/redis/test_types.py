"""Arguments and results are what the annotations say; what does not fit is refused."""

import json
import logging
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy
import pytest
import rq
from rq.serializers import JSONSerializer

import jiffy
from jiffy import enqueue, part, result, wait
from jiffy.errors import InvalidSchedule, JobFailed, NotImportable, WrongArguments
from jiffy.producer import functions
from jiffy.scheduler.entry import every, read
from jiffy.testing import Queued
from tests.jobs import typed
from tests.jobs.typed import (
    Account,
    Box,
    Card,
    Cash,
    Color,
    Company,
    Customer,
    GiftOrder,
    Item,
    Level,
    Login,
    Node,
    Order,
    Pair,
    Point,
    Stamp,
)

ID = UUID("12345678-1234-5678-1234-567812345678")
AT = datetime(2030, 1, 31, 6, 30, 0, 5, timezone(timedelta(hours=2)))
ORDER = Order(ID, [Item(Decimal("9.90"), {"a"})], AT, {"x": [1, None]})
PLAIN_ORDER = {
    "id": str(ID), "items": [{"price": "9.90", "tags": ["a"]}],
    "at": "2030-01-31T06:30:00.000005+02:00", "more": {"x": [1, None]},
}  # fmt: skip

LOOP = Node([])
LOOP.below.append(LOOP)

VALUES = [
    (typed.node, Node([Node([])]), {"below": [{"below": []}]}),
    (typed.moment, Stamp(2030, 1, 31), "2030-01-31T00:00:00"),
    (typed.moment, AT, "2030-01-31T06:30:00.000005+02:00"),
    (typed.moment, AT.replace(tzinfo=None), "2030-01-31T06:30:00.000005"),
    (typed.day, date(2030, 1, 31), "2030-01-31"),
    (typed.clock, time(6, 30), "06:30:00"),
    (typed.span, timedelta(days=1, seconds=5), "P1DT5S"),
    (typed.key, ID, str(ID)),
    (typed.money, Decimal("9.90"), "9.90"),
    (typed.place, Path("a/\udc80"), "a/\udc80"),
    (typed.color, Color.RED, "red"),
    (typed.level, Level.LOW, 1),
    (typed.order, ORDER, PLAIN_ORDER),
    (typed.point, Point(1, 2), {"x": 1, "y": 2}),
    (typed.customer, Customer(name="ada", born=date(1815, 12, 10), points=[1]),
     {"name": "ada", "born": "1815-12-10", "points": [1]}),
    (typed.company, Company(name="ada", born=date.min),
     {"name": "ada", "born": "0001-01-01", "points": []}),
    (typed.payments, [Cash(Decimal("9.90")), Card("4242")],
     [{"type": "Cash", "given": "9.90"}, {"type": "Card", "lastDigits": "4242"}]),
    (typed.unique, {3, 1}, [1, 3]),
    (typed.frozen, frozenset({"a"}), ["a"]),
    (typed.row, (1, Path("a"), 2), [1, "a", 2]),
    (typed.anything_in_a_row, (1, "a"), [1, "a"]),
    (typed.pair, Pair(1, "a"), [1, "a"]),
    (typed.raw, b"\x00\xff", "AP8="),
    (typed.size, "m", "m"),
    (typed.size, None, None),
    (typed.maybe, date(2030, 1, 31), "2030-01-31"),
    (typed.by_number, {1: Decimal(2)}, {"1": "2"}),
    (typed.by_color, {Color.RED: [date(2030, 1, 31)]}, {"red": ["2030-01-31"]}),
    (typed.nested, [{"a": (ORDER, ORDER)}], [{"a": [PLAIN_ORDER, PLAIN_ORDER]}]),
    (typed.count, numpy.int64(5), 5),
    (typed.ratio, numpy.float32(0.5), 0.5),
    (typed.flag, numpy.bool_(True), True),
    (typed.options, {"loud": True}, {"loud": True}),
    (typed.numbers, [1.5, numpy.float64(2.5), numpy.int64(3)], [1.5, 2.5, 3]),
    (typed.loose, {"a": [{"b": None}]}, {"a": [{"b": None}]}),
    (typed.later, date(2030, 1, 31), "2030-01-31"),
    (typed.either, "a", "a"),
    (typed.untyped, {"a": [1, [2]]}, {"a": [1, [2]]}),
    (typed.untyped, numpy.float64(2.5), 2.5),
]  # fmt: skip


@pytest.fixture(autouse=True)
def allowed(environ):
    environ(JOBS_MODULES="tests")


CIRCLE = [1]
CIRCLE[0] = CIRCLE


@pytest.mark.parametrize(("function", "value", "plain"), VALUES)
def test_a_value_travels_as_json_and_arrives_as_it_was(work, redis, function, value, plain):
    job = enqueue(function, value)
    by_name = enqueue(function, it=value)
    stock = rq.job.Job.fetch(job.id, redis, JSONSerializer)
    work()

    assert stock.args == [plain]
    for one in (job, by_name, jiffy.find_job(job.id)):
        arrived = wait(one, timeout="30s")
        assert arrived == value
        assert isinstance(value, type(arrived))


def test_what_json_sends_is_what_python_sends(redis):
    for function, value, plain in VALUES:
        assert enqueue(function, plain).args == enqueue(function, value).args


@pytest.mark.parametrize(
    ("function", "value", "reason"),
    [
        (typed.order, Order(ID, [Item(Decimal(1)), Item(Decimal(1)), Item("abc")]),
         "it.items[2].price: expected a decimal, got 'abc'."),
        (typed.order, {**PLAIN_ORDER, "item": 1}, "it has the key 'item', which must be one of"),
        (typed.order, GiftOrder(ID, [], note="x"), "it has the key 'note', which must be one of"),
        (typed.order, Order(ID, [], more={"a": (1, 2)}),
         "it.more.a: expected a number, a string, a list or a dict, got a tuple"),
        (typed.order, Order(ID, [], more={"a": {1: 2}}), "it.more.a has the key 1"),
        (typed.order, {"id": str(ID)}, "it.items: expected a list, got None."),
        (typed.node, LOOP, "it: expected a value that does not contain itself"),
        (typed.boxed, Box(date(2030, 1, 31)), "it.inside: expected a number, a string, a list"),
        (typed.point, Point("1"), "it.x: expected a whole number, got '1'."),
        (typed.point, Point(1, -1), "it.y: expected a whole number >= 0, got -1."),
        (typed.customer, Customer.model_construct(name="ada", born=date.min, points=[1, "x"]),
         "it.points[1]: expected a valid integer"),
        (typed.customer, {"name": "ada"}, "it.born: expected"),
        (typed.login, Login(password="hunter2"),
         "it: expected fields that JSON brings back as they were ('password' would change)"),
        (typed.payments, [Card("4242"), Cash("abc")],
         "it[1].given: expected a decimal, got 'abc'."),
        (typed.payments, [{"type": "Cash", "given": "1", "lastDigits": "4"}],
         "it[0] has the key 'lastDigits', which must be one of type, given"),
        (typed.moment, "soon", "it: expected a datetime such as '2030-01-31T06:30:00Z', got"),
        (typed.moment, date(2030, 1, 31), "it: expected a datetime"),
        (typed.place, 5, "it: expected a path, got 5."),
        (typed.color, Level.LOW, "it: expected 'red' or 'blue', got"),
        (typed.count, 1.5, "it: expected a whole number, got 1.5."),
        (typed.by_number, {"x": 1}, "it has the key 'x', which must be a whole number"),
        (typed.row, (1, Path("a"), "x"), "it[2]: expected a whole number, got 'x'."),
        (typed.strings, ["a", Path("b")], "it[1]: expected a string, got PosixPath('b')."),
        (typed.mixed, [[]], "it: expected what can be converted (unhashable type: 'list'), got"),
        (typed.mixed, {(1,): 2}, "it: expected a list, got a dict."),
        (typed.numbers, CIRCLE, "it[0]: expected a number, got a list."),
        (typed.point, {1: 2}, "it has the key 1, which must be one of x, y."),
        (typed.by_number, "\udcff", "it: expected what can be converted ('utf-8' codec can't"),
        (typed.loose, {"a": Path("b")},
         "it.a: expected a number, a string, a list or a dict, got PosixPath('b')."),
        (typed.numbers, [1.0, float("nan")], "it[1] cannot be sent as JSON: it is nan."),
        (typed.log_in, ("ada", "hunter2"), "password: expected a whole number, got ***."),
        (typed.day, Account("ada", "hunter2"), "'2030-01-31', got an Account."),
        (typed.account, Account("ada", 5), "it.password: expected a string, got ***."),
        (typed.untyped, (1, 2), "it cannot be sent as JSON: it is a tuple. Annotate"),
        (typed.untyped, [{"a": (1,)}], "it[0].a cannot be sent as JSON: it is a tuple. Annotate"),
        (typed.untyped, {1: 2}, "the key 1 of it cannot be sent as JSON: it is an int. Annotate"),
        (typed.untyped, Color.RED, "it cannot be sent as JSON: it is a Color. Annotate"),
        (typed.lazily, {1}, "its annotation Iterable[int] cannot be converted: pass a list."),
        (typed.unresolved, Path("a"), "Its annotation Fraction cannot be converted: pass it as"),
        (typed.either, Path("a"), "Its annotation str | Path cannot be converted: pass it as"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_path(redis, function, value, reason):
    with pytest.raises(WrongArguments) as refused:
        enqueue(function, *value) if function is typed.log_in else enqueue(function, value)

    assert reason.lower() in str(refused.value).lower()
    assert redis.keys() == []


@pytest.mark.parametrize("function", [typed.lines, typed.lines_later])
def test_a_generator_function_is_refused(redis, function):
    with pytest.raises(NotImportable, match="is a generator function, and no worker iterates"):
        enqueue(function, "a")


def test_all_kinds_of_parameters_are_converted(work):
    job = enqueue(
        typed.spread, date(2030, 1, 1), date(2030, 1, 2), last=date(2030, 1, 3), x=Decimal(4)
    )
    default = enqueue(typed.implicit, None)
    work()

    assert wait(job) == [
        "(datetime.date(2030, 1, 1), datetime.date(2030, 1, 2))",
        "datetime.date(2030, 1, 3)",
        "{'x': Decimal('4')}",
    ]
    assert wait(default) is None
    with pytest.raises(WrongArguments, match=r"argument 2: expected a date such as"):
        enqueue(typed.spread, date(2030, 1, 1), "soon")


def test_what_a_stock_producer_sent_is_converted_or_runs_as_it_is(redis, work, caplog):
    queue = rq.Queue(connection=redis, serializer=JSONSerializer)
    fits = queue.enqueue("tests.jobs.typed.later", "2030-01-31")
    untrue = queue.enqueue("tests.jobs.typed.implicit", {"a": 1})
    with caplog.at_level(logging.WARNING, "jiffy"):
        work()

    assert fits.return_value() == "2030-01-31"
    assert untrue.return_value() == {"a": 1}
    [line] = [line for line in caplog.messages if line.startswith("job.unconverted")]
    assert f"job={untrue.id}" in line
    assert "it must be a date" in line
    assert "{'a': 1}" not in line  # it may be a secret


def test_a_stock_worker_gets_jsons_types(redis):
    job = enqueue(typed.implicit, date(2030, 1, 31))
    queue = rq.Queue(connection=redis, serializer=JSONSerializer)
    rq.SimpleWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=True)

    assert job.return_value() == "2030-01-31"
    assert wait(job) == date(2030, 1, 31)


def test_a_result_is_an_argument_of_the_next_part_with_its_type(work):
    jobs = enqueue.chain(part(typed.order, ORDER), part(typed.order, result))
    work()

    assert wait(jobs[-1]) == ORDER


def test_what_is_left_out_of_a_dataclass_is_there_with_its_default(work):
    job = enqueue(typed.order, {"id": str(ID), "items": []})
    work()

    assert job.return_value() == {"id": str(ID), "items": [], "at": None, "more": {}}


def test_a_result_that_breaks_its_annotation_is_stored_as_json(work):
    job = enqueue(typed.broken_promise)
    work()

    assert wait(job) == [1, 2]


def test_a_result_whose_keys_would_change_is_refused(work):
    job = enqueue(typed.numbered)
    work()

    with pytest.raises(JobFailed, match=r"annotate the return as dict\[int"):
        wait(job)


def test_equal_sets_are_the_same_call(redis):
    once = enqueue.options(unique="1h")
    words = [f"word {number}" for number in range(50)]

    jobs = [once(typed.frozen, frozenset(some)) for some in (words, reversed(words))]
    assert jobs[0].id == jobs[1].id


def test_a_function_is_described_by_a_schema():
    described = functions.described("tests.jobs.typed.order")
    spread = functions.described("tests.jobs.typed.spread")
    schema = described["parameters"]

    assert schema["properties"]["it"] == {"$ref": "#/$defs/Order"}
    assert schema["required"] == ["it"]
    assert schema["$defs"]["Item"]["properties"]["price"]["format"] == "decimal"
    assert spread["description"].endswith("The second paragraph.")
    assert spread["parameters"]["properties"]["days"]["items"]["format"] == "date"
    assert spread["parameters"]["additionalProperties"]["format"] == "decimal"
    json.dumps([functions.described(path) for path in functions.all_paths(("tests.jobs.typed",))])


def test_a_secret_in_an_object_is_masked_in_the_description(redis):
    job = enqueue(typed.account, Account("ada", "hunter2"))

    assert job.description == "tests.jobs.typed.account({'name': 'ada', 'password': ***})"


@pytest.fixture
def queued(redis):
    return Queued(redis)


def test_a_test_finds_a_job_by_what_was_left_out(queued):
    enqueue(typed.order, {"id": str(ID), "items": [{"price": 20}]})

    assert queued.has(typed.order, Order(ID, [Item(Decimal(20))]))
    assert not queued.has(typed.order, Order(ID, [Item(Decimal(21))]))


def test_a_test_finds_a_job_by_the_values_that_were_enqueued(queued):
    enqueue(typed.spread, date(2030, 1, 31), x=Decimal("1.5"))

    assert queued.has(typed.spread, date(2030, 1, 31), x=Decimal("1.5"))
    assert not queued.has(typed.spread, date(2030, 1, 31), x=Decimal("1.6"))


def test_an_integration_that_replaces_rqs_perform_changes_nothing(work, monkeypatch):
    perform = rq.job.Job.perform
    monkeypatch.setattr(rq.job.Job, "perform", lambda job: perform(job))
    job = enqueue(typed.order, ORDER)
    work()

    assert wait(job) == ORDER


def test_a_pickled_job_keeps_the_objects_in_it(redis, work, environ):
    environ(JOBS_MODULES="tests", SERIALIZERS="json,pickle")
    job = rq.Queue(connection=redis).enqueue(typed.order, ORDER)
    work()

    assert job.return_value() == ORDER


def test_an_entry_of_the_schedule_has_typed_arguments(redis):
    [entry] = read([every("1h", typed.maybe, args=[date(2030, 1, 31)])])

    assert json.loads(entry.run_fields["data"])[2] == ["2030-01-31"]
    with pytest.raises(InvalidSchedule, match=r"entry 1: .*it: expected a date such as"):
        read([every("1h", typed.maybe, args=["soon"])])
