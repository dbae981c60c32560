"""Odd data: one job, field or key that is not what it should be hurts only itself."""

import itertools
import zlib

import pytest
import rq
from redis import Redis
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer

import jiffy
from jiffy import clock, keys, part, result
from jiffy.control import pauses
from jiffy.redis_io import Link
from jiffy.worker import recovery, upkeep
from jiffy.worker.claim import Pace
from jiffy.worker.finish import finish_command, plan_for
from jiffy.worker.recovery import Handling
from jiffy.worker.run import func_name_of
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import add
from tests.support.worker_support import (
    WIP,
    child,
    claim,
    claimer,
    die,
    due,
    enqueue,
    finish,
    ids_of,
    outcome,
    queued,
    reason,
    registered,
    rq_worker,
    status,
)

# What a job may have become.  Each is followed by a good one, which must run all the same.


def of_another_type(redis, key):
    redis.delete(key)
    redis.rpush(key, "a", "list")


def without_data(redis, key):
    redis.hdel(key, "data")


def with_field(name, value):
    def change(redis, key):
        redis.hset(key, name, value)

    return change


CORRUPT = {
    "of another type": of_another_type,
    "without data": without_data,
    "unreadable": with_field("data", b"\x80\x04\xff\x00"),
    "no call": with_field("data", b'{"function": "jobs.numbers.add"}'),
    "a call of a number": with_field("data", b"[5, null, [], {}]"),
    "numbers as arguments": with_field("data", b'["tests.jobs.worker.nothing", null, 5, 6]'),
    "over 100 MB": with_field("data", zlib.compress(b" " * (101 << 20))),
    "a time limit in words": with_field("timeout", "soon"),
    "a time limit of a hundred digits": with_field("timeout", "0" * 97 + "180"),
    "a ttl in words": with_field("result_ttl", "long"),
    "no function": with_field("data", b'["tests.jobs.worker.nothing_at_all", null, [], {}]'),
    "half a character": with_field("data", b'["tests.\\udcff", null, [], {}]'),
    "another half": with_field("data", b'["tests.\\ud800", null, [], {}]'),
}


def the_rest(redis, key):
    """What a corrupt job is made of, apart from what a worker writes."""
    if redis.type(key) != b"hash":
        return redis.lrange(key, 0, -1)
    return redis.hmget(key, "data", "timeout", "result_ttl", "description", "origin")


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_job_fails_with_a_reason_and_its_neighbours_run(redis, corrupt):
    enqueue(redis, 3)
    corrupt(redis, keys.job("default-1"))
    before = the_rest(redis, keys.job("default-1"))
    rq_worker(redis).work(burst=True, logging_level="CRITICAL")

    assert registered(redis, "failed") == ["default-1"]
    assert len(reason(redis, "default-1")) > 20
    assert the_rest(redis, keys.job("default-1")) == before
    assert registered(redis, "finished") == ["default-0", "default-2"]
    assert registered(redis, "started") == []


def test_a_worker_remembers_no_name_that_no_function_can_have():
    assert func_name_of(["x" * 300, None, [], {}]) == "x" * 300
    assert func_name_of(["x" * 301, None, [], {}]) == "?"
    pace = Pace()
    for number in range(10**5):
        pace.learn(f"odd.{number}", 1)
    assert len(pace._took_s) <= 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", b"\xff"),
        ("status", b"unheard-of"),
        ("created_at", b"yesterday"),
        ("enqueued_at", b"\xff\xfe"),
        ("result_ttl", b"1e999"),
        ("result_ttl", b"99999999999999999999"),
        ("failure_ttl", b"99999999999999999999"),
        ("failure_ttl", b"never"),
        ("timeout", b"0.5"),
        ("timeout", b"1e999"),
        ("timeout", b"nan"),
        ("timeout", b"99999999999999999999"),
        ("ttl", b"99999999999999999999"),
        ("description", b"\xff\xfe"),
        ("origin", b"\xff\xfe"),
        ("dependency_ids", b"not json"),
        ("retries_left", b"some"),
        ("retry_intervals", b"not json"),
        ("repeats_left", b"some"),
        ("success_callback_name", b"no.such.module.callback"),
        ("success_callback_name", b"\xff"),
        ("failure_callback_name", b"no.such.module.callback"),
        ("webhooks", b"not json"),
        ("rate_limit_key", b"\xff"),
        ("group_id", b"\xff"),
        ("meta", b"\x80\x04"),
        ("serializer_name", b"no.such.Serializer"),
        ("jiffy:join", b"nobody"),
        ("jiffy:expires", b"soon"),
        ("jiffy:expires", b"inf"),
    ],
)
@pytest.mark.parametrize("func", [worker_jobs.nothing, worker_jobs.fail])
def test_no_field_of_a_job_ends_a_worker(redis, work, field, value, func):
    enqueue(redis)
    enqueue(redis, 1, func, queue="odd")
    enqueue(redis, queue="more")
    redis.hset(keys.job("odd-0"), field, value)
    redis.zadd(keys.EXPIRING, {"odd-0": 1})
    work("default", "odd", "more")

    assert registered(redis, "finished", "default") == ["default-0"]
    assert registered(redis, "finished", "more") == ["more-0"]
    assert queued(redis, "odd") == []
    assert is_over(redis, "odd-0")


@pytest.mark.parametrize(
    ("fields", "becomes"),
    [
        ({"retries_left": 1, "retry_intervals": b"[1e999]"}, "queued"),
        ({"retries_left": 1, "retry_intervals": b"[" + b"9" * 400 + b"]"}, "scheduled"),
        ({"retries_left": b"9" * 400}, "queued"),
        ({"retries_left": 1, "jiffy:retry": b"[1, {"}, "queued"),
        ({"retries_left": 1, "jiffy:retry": b"[" * 20_000}, "queued"),
        ({"webhooks": b"[" * 20_000}, "failed"),
    ],
)
def test_no_rule_of_a_failing_job_ends_a_worker(redis, fields, becomes):
    enqueue(redis, 1, worker_jobs.fail)
    redis.hset(keys.job("default-0"), mapping=fields)
    finish(redis, *claim(redis), "failed", error="it broke")

    assert status(redis) == becomes
    assert registered(redis, "started") == []


OVER = tuple(keys.REGISTRIES[name] for name in ("finished", "failed", "canceled"))


def is_over(redis, job_id):
    """Whether it stands in a registry of what is over, and in none of what is not."""
    found = [key for key in places(redis, job_id) if key != keys.EXPIRING]
    return bool(found) and all(key.startswith(OVER) for key in found)


def places(redis, job_id):
    """The keys that name a job: queues, registries, and what workers hold."""
    found = []
    with redis.pipeline() as pipe:
        for kind, read, *limits in (
            ("list", pipe.lrange, 0, -1), ("zset", pipe.zrange, 0, -1), ("hash", pipe.hkeys)
        ):  # fmt: skip
            for key in redis.scan_iter(count=1000, _type=kind):
                found.append(key.decode("latin-1"))
                read(key, *limits)
        members = pipe.execute()
    return [
        key
        for key, raws in zip(found, members, strict=True)
        if any(raw.split(b":")[0] == job_id.encode() for raw in raws)
    ]


def test_a_count_of_retries_below_zero_ends_no_worker(redis):
    enqueue(redis, 1, worker_jobs.ask_for_a_retry, 2)
    redis.hset(keys.job("default-0"), "number_of_retries", -5)
    child(redis).work()

    assert registered(redis, "failed") == ["default-0"]


def test_a_job_with_an_id_that_is_no_text_fails_and_its_neighbours_run(redis, work):
    enqueue(redis, 2)
    odd = b"odd-\xff"
    redis.rename(keys.job("default-0"), keys.job("").encode() + odd)
    redis.lset(keys.queue("default"), 0, odd)
    work()

    assert registered(redis, "finished") == ["default-1"]
    assert redis.zrange(keys.REGISTRIES["failed"] + "default", 0, -1) == [odd]
    assert redis.zcard(WIP) == 0


# What only we write, and something else has written

TODO = keys.todo("default")
MINUTES = [keys.history(f"now:{int(clock.wall()) // 60 + later}") for later in range(30)]


def counts_that_are_none(redis):
    """Whatever a job's end adds to, for a while."""
    for minute in MINUTES:
        redis.hset(minute, "ran_ms - - tests.jobs.worker.nothing\ndefault", "odd")
        for waited, ran in itertools.product(range(-1, 20), repeat=2):
            counted = f"done {waited} {ran} tests.jobs.worker.nothing\ndefault"
            redis.hset(minute, counted, "odd")


ODD = {
    "a release of nothing": lambda redis: redis.zadd(TODO, {"release foo": 0, b"release \xff": 0}),
    "tries that are no number": lambda redis: (redis.zadd(TODO, {"webhooks failed gone": 0}),
     redis.hset(keys.TODO_TRIES, "webhooks failed gone", "odd")),
    "too many tries": lambda redis: (redis.zadd(TODO, {"webhooks failed gone": 0}),
     redis.hset(keys.TODO_TRIES, "webhooks failed gone", 2**63 - 1)),
    "counts that are none": counts_that_are_none,
    "no expiring jobs": lambda redis: redis.set(keys.EXPIRING, "odd"),
    "no leases": lambda redis: redis.set(keys.LEASES, "odd"),
    "no tokens": lambda redis: redis.set(keys.wake("default"), "odd"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD)
def test_something_odd_in_a_key_of_ours_loses_no_job(redis, spoil):
    spoil(redis)
    enqueue(redis)
    jiffy.enqueue.options(expires="10m", job_id="expires")(worker_jobs.nothing)
    spoil(redis)
    child(redis).work()

    assert registered(redis, "finished") == ["default-0", "expires"]


def test_something_else_in_the_key_of_a_coming_execution_loses_no_job(redis):
    enqueue(redis, 2)
    token = "t" * 16
    for batch in (1, 2):  # the second, if Redis does not know the script yet
        redis.set(f"{keys.RQ}execution:default-0:{token}{batch:08x}{1:08x}", "odd")

    assert ids_of(claim(redis, token=token)) == ["default-0", "default-1"]


def test_a_job_is_not_parked_where_something_else_stands_in_place_of_the_pauses(redis):
    enqueue(redis, 2)
    parked, ran = claim(redis)
    redis.set(keys.PAUSED, "odd")
    plans = [plan_for(outcome(parked, "parked")), plan_for(outcome(ran))]
    Link(redis).exchange(finish_command("worker-1", b",".join(plans)))

    assert (queued(redis), registered(redis, "finished")) == (["default-0"], ["default-1"])


@pytest.mark.parametrize("prefix", ["execution:", "executions:"])
def test_a_user_who_may_not_write_executions_loses_no_job(redis, redis_address, prefix):
    enqueue(redis, 2)
    known = {key.decode().partition(":")[2].partition(":")[0] for key in redis.keys(f"{keys.RQ}*")}
    ours = {"wip", "worker", "suspended", "workers", "executions", "execution", *known}
    allowed = [f"~{keys.RQ}{name}:*" for name in ours - {prefix[:-1]}]
    rules = ["reset", "on", ">secret", "+@all", f"~{keys.OWN}*", f"~{keys.SUSPENDED}", *allowed]
    redis.execute_command("ACL", "SETUSER", "shop", *rules)
    with Redis.from_url(redis_address.replace("unix://", "unix://shop:secret@")) as shop:
        claimed = claim(shop)
    redis.acl_deluser("shop")

    assert ids_of(claimed) == ["default-0", "default-1"]
    assert registered(redis, "started") == ["default-0", "default-1"]


def test_tokens_where_there_is_nothing_to_do_wake_a_worker_once(redis):
    redis.lpush(keys.wake("default"), *range(1000))
    claim(redis)

    assert not redis.exists(keys.wake("default"))


def test_a_worker_waits_where_something_else_stands_in_place_of_tokens(redis):
    redis.set(keys.wake("default"), "odd")
    waiting = claimer(redis)

    assert waiting.claim(1, wait_s=0.01).jobs == []
    enqueue(redis)
    assert ids_of(waiting.claim(1, wait_s=0.01).jobs) == ["default-0"]


def test_a_delayed_job_whose_expiry_is_no_number_is_run(redis, work):
    jiffy.enqueue.options(in_="1h", job_id="later")(worker_jobs.nothing)
    redis.hset(keys.job("later"), "jiffy:expires", "nan")
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {"later": 1})
    due(redis)
    work()

    assert registered(redis, "finished") == ["later"]


def test_a_sweep_does_not_wait_for_a_time_that_is_far_ahead(redis):
    enqueue(redis)
    claim(redis)
    redis.zadd(keys.LEASES, {"worker-1": 1})
    redis.hset(keys.LAST_SWEEP, mapping={"at": clock.wall() - 4, "quiet_until": "1e300"})
    recovery.sweep(Link(redis))

    assert queued(redis) == ["default-0"]


# Keys that hold something else


def test_a_dependent_whose_queue_was_something_else_is_released_once_that_is_gone(redis, work):
    jiffy.enqueue.options(job_id="parent")(worker_jobs.nothing)
    for queue in ("odd", "low"):
        waiting = jiffy.enqueue.options(job_id=queue, queue=queue, depends_on="parent")
        waiting(worker_jobs.nothing)
    redis.set(keys.queue("odd"), "odd")
    work("default", "low")
    assert registered(redis, "finished", "low") == ["low"]

    redis.delete(keys.queue("odd"))
    redis.zadd(TODO, {"release finished 0 parent": 1}, xx=True)  # a second has passed
    work("default", "odd")
    assert registered(redis, "finished", "odd") == ["odd"]


def test_jobs_of_a_paused_function_come_back_whatever_stood_where_these_are_listed(redis, work):
    pauses.pause(function=worker_jobs.nothing, why="a test")
    redis.set(f"{keys.OWN}parked", "odd")
    enqueue(redis)
    work()
    pauses.resume(function=worker_jobs.nothing)
    work()

    assert registered(redis, "finished") == ["default-0"]


@pytest.mark.parametrize(("state", "options"), [("failed", {}), ("scheduled", {"retry": 3})])
def test_a_registry_that_was_something_else_has_what_has_ended_meanwhile(
    redis, work, state, options
):
    jiffy.enqueue.options(job_id="fails", **options)(worker_jobs.fail)
    redis.set(keys.REGISTRIES[state] + "default", "odd")
    work()

    assert registered(redis, state) == ["fails"]


def enqueue_all_kinds(redis):
    """Jobs whose ends touch all keys that there are; the last one is an innocent neighbour."""
    queue = rq.Queue("default", connection=redis, serializer=JSONSerializer)
    for job_id in ("parent", "other-parent"):
        queue.enqueue(worker_jobs.nothing, job_id=job_id)
    queue.enqueue(worker_jobs.nothing, job_id="dependent", depends_on=["parent"])
    queue.enqueue(worker_jobs.nothing, job_id="other", depends_on=["other-parent"])
    redis.zadd(keys.todo("default"), {"release finished 0 other-parent": 1})
    for job_id in ("has-a-slot", "is-held"):
        queue.enqueue(worker_jobs.nothing, job_id=job_id, rate_limit=RateLimit("api", 1))
    jiffy.enqueue.chain(part(add, 1, 1), part(add, result, 1))
    jiffy.enqueue.options(in_="1h", job_id="later")(worker_jobs.nothing)
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {"later": 1})
    queue.enqueue(worker_jobs.fail, job_id="fails", retry=rq.Retry(1))
    jiffy.enqueue.options(expires="10m")(worker_jobs.nothing)
    rq_worker(redis).register_birth()
    enqueue(redis, queue="more")


def forget_worker_and_maintain(redis, held):
    for one in held:
        redis.zadd(WIP, {f"{one.job_id}:{one.execution}": 1}, xx=True)
    redis.delete(keys.held("worker-1"))
    upkeep.maintain(Link(redis), [keys.queue("default"), keys.queue("more")], 0.001)


STEPS = {
    "finish": lambda redis, held: [finish(redis, one, value=b"5") for one in held],
    "fail": lambda redis, held: [finish(redis, one, "failed", error="it broke") for one in held],
    "return": lambda redis, held: [finish(redis, one, "requeued") for one in held],
    "recover": lambda redis, held: die(redis, held[0]),
    "recover a killed one": lambda redis, held: die(redis, held[1], handling=Handling.FAIL),
    "recover from a vanished one": lambda redis, held: die(redis, is_gone=True),
    "heartbeat": lambda redis, _: Link(redis).run(
        "heartbeat", [keys.LEASES], [10, 480, "worker-1", 0, "", "", "", "worker-2", 0, "", "", ""]
    ),
    "due": lambda redis, _: due(redis, queues=["default", "more"]),
    "maintain": forget_worker_and_maintain,
}
EXEMPT = (keys.WORKERS,)  # written by RQ as a worker starts


@pytest.mark.parametrize("step", STEPS)
def test_a_key_that_holds_something_else_loses_no_job_and_stops_no_other(redis, step):
    enqueue_all_kinds(redis)
    held = claim(redis, token="t" * 16)
    before = {key: (redis.type(key), redis.dump(key)) for key in redis.keys("*")}
    for spoilt, (kind, _) in before.items():
        if "more" in spoilt.decode() or spoilt.decode().startswith(EXEMPT):
            continue
        with redis.pipeline() as pipe:
            pipe.flushall()
            for key, (_, value) in before.items():
                if key != spoilt:
                    pipe.restore(key, 0, value)
            spoil = pipe.rpush if kind == b"string" else pipe.set
            spoil(spoilt, "odd")
            pipe.execute()
        # WRONGTYPE is the test's own: it moves the scores of the started registry.
        if not (step == "maintain" and spoilt == WIP.encode()):
            STEPS[step](redis, held)
        child(redis, name="worker-2", queues=["default", "more"]).work()

        assert status(redis, "more-0") == "finished", spoilt
        for job_id in ids_of(held):
            was_spoilt = spoilt.decode().startswith((*OVER, keys.job(job_id)))
            assert was_spoilt or places(redis, job_id), (spoilt, job_id)
