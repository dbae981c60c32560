"""History: what became of attempts, by the minute, the hour and the day."""

import zlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from rq import Retry

import jiffy
from jiffy import history, keys
from jiffy.worker.recovery import Handling
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import child, claim, die, enqueue, finish

NOTHING, FAIL = "tests.jobs.worker.nothing", "tests.jobs.worker.fail"


@pytest.fixture
def minute_ago(redis):
    """Let time pass for what was counted so far: `minute_ago(3)` moves it three minutes back."""

    def move(minutes=1):
        for key in sorted(redis.keys(keys.history("now:*"))):  # or one would replace the next
            before = key.rpartition(b":")[2]
            redis.rename(key, keys.history(f"now:{int(before) - minutes}"))

    return move


def pack(redis):
    """Pack all minutes that can be packed, in as many turns as that takes."""
    before = None
    while (left := len(redis.keys(keys.history("now:*")))) not in (0, before):
        before = left
        redis.delete(keys.history("packing"))
        history.pack(redis)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis: redis.set(keys.history("packing"), "odd"),
        lambda redis: redis.set(keys.history("packing"), "odd", ex=10**9),
        lambda redis: redis.set(keys.history("names"), "odd"),
        lambda redis: redis.hset(keys.history(f"now:{redis.time()[0] // 60 - 5}"), "odd", "odd"),
    ],
    ids=["a lock for ever", "a lock for years", "names", "a minute"],
)
def test_nothing_odd_keeps_history_from_being_packed(redis, spoil):
    count(redis, 3)
    spoil(redis)
    for _ in range(2):
        history.pack(redis)

    assert ends(history.read(redis, "function", NOTHING).whole) == (1, 0, 0, 0)
    assert not redis.keys(keys.history("now:*"))


def test_what_is_nested_too_deep_in_the_history_is_none(redis):
    now_s = redis.time()[0]
    for tier in history._TIERS:
        deep = zlib.compress(b"\x81\xa2t:" + b"\x91" * 5000)
        redis.set(tier.key(now_s // tier.step_s // tier.slots, "t"), deep)
    look = zlib.compress(b"[%d,{},{},%b]" % (now_s, b"[" * 5000))
    redis.lpush(keys.history("samples"), look, look)
    unknown = glance(redis, "24h")
    count(redis, 3)
    pack(redis)

    assert (ends(unknown.series.whole), history.flows(redis)) == ((0, 0, 0, 0), {})
    assert ends(history.read(redis).whole) == (1, 0, 0, 0)


def test_counts_as_high_as_a_count_may_be_cost_no_history(redis):
    most = 2**53 - 1
    for minute, group in enumerate(("done - -", "ran_ms - -")):
        fields = {f"{group} {NOTHING}\n{n}": most for n in range(2100)}
        redis.hset(keys.history(f"now:{redis.time()[0] // 60 - 9 + minute}"), mapping=fields)
    for minutes in (5, 4, 3):
        count(redis, minutes, "failed 3 4")
    pack(redis)

    assert ends(history.read(redis).whole)[1] == 3
    assert not redis.keys(keys.history("now:*"))


def ends(point):
    return point.done, point.failed, point.retried, point.interrupted


def count(redis, minutes, group="done 3 4", function=NOTHING, queue="default", times=1, now_s=None):
    """As if attempts had ended so many minutes ago."""
    minute = (now_s or redis.time()[0]) // 60 - minutes
    redis.hincrby(keys.history(f"now:{minute}"), f"{group} {function}\n{queue}", times)


def glance(redis, span):
    return history.glance(redis, span, redis.time()[0])


def test_attempts_are_counted_by_how_they_ended_and_packed_once(redis, minute_ago):
    jiffy.enqueue(worker_jobs.nothing)
    jiffy.enqueue.options(queue="low")(worker_jobs.fail)
    jiffy.enqueue.options(queue="low", retry=Retry(max=1, interval=60))(worker_jobs.fail)
    child(redis, queues=["default", "low"]).work()
    before = [history.read(redis, by, name).whole for by, name in (("total", ""), ("queue", "low"))]
    minute_ago()
    with ThreadPoolExecutor(4) as packers:
        list(packers.map(lambda _: pack(redis), range(8)))

    assert [ends(point) for point in before] == [(1, 1, 1, 0), (0, 1, 1, 0)]
    assert not redis.keys(keys.history("now:*"))
    for span in ("1h", "24h", "7d", "90d"):
        assert ends(history.read(redis, span=span).whole) == (1, 1, 1, 0)
        assert ends(history.read(redis, "function", FAIL, span).whole) == (0, 1, 1, 0)
        busiest = {name: ends(one) for name, one in glance(redis, span).functions.items()}
        assert busiest == {NOTHING: (1, 0, 0, 0), FAIL: (0, 1, 1, 0)}


@pytest.mark.parametrize(
    ("handling", "expected"),
    [
        ({"handling": Handling.COUNT}, (0, 0, 0, 1)),
        ({"handling": Handling.REQUEUE}, (0, 0, 0, 1)),
        ({"handling": Handling.FAIL}, (0, 1, 0, 0)),
        # What a person has stopped is no failure.
        ({"handling": Handling.STOP}, (0, 0, 0, 1)),
    ],
)
def test_an_attempt_whose_worker_died_counts_for_its_function(redis, handling, expected):
    jiffy.enqueue(worker_jobs.nothing)
    die(redis, *claim(redis), **handling)

    assert ends(history.read(redis, "function", NOTHING).whole) == expected


def test_how_long_attempts_waited_and_ran_is_read_from_their_histograms(redis):
    for waited_s, ran_s, times in ((0.01, 0.2, 90), (2, 0.2, 8), (60, 30, 2)):
        group = f"done {history.bucket(waited_s)} {history.bucket(ran_s)}"
        count(redis, 1, group, times=times)
    pack(redis)
    whole = history.read(redis).whole

    for times, expected in ((whole.waited, (0.01, 2)), (whole.ran, (0.2, 0.2))):
        found = (times.p50_s, times.p95_s)
        assert all(0.5 <= one / sure <= 2 for one, sure in zip(found, expected, strict=True))
    assert history.read(redis, "queue", "another").whole.ran.p50_s is None


def test_a_point_has_what_happened_in_its_time(redis):
    now_s = redis.time()[0]
    for minutes in (0, 1, 1, 20):
        count(redis, minutes, now_s=now_s)
    pack(redis)
    hour, day = (history.read(redis, span=span, now_s=now_s) for span in ("1h", "24h"))

    assert [point.done for point in hour.points if point.done] == [1, 2, 1]
    assert [hour.points[-n].done for n in (1, 2, 21)] == [1, 2, 1]
    assert [len(one.points) for one in (hour, day)] == [60, 24]
    assert sum(point.done for point in day.points) == 4
    assert hour.points[0].start + 59 * (hour.points[1].start - hour.points[0].start) == (
        hour.points[-1].start
    )


def test_ten_thousand_functions_and_queues_do_not_make_it_grow(redis):
    minute, pipe = redis.time()[0] // 60, redis.pipeline()
    for number in range(10_000):
        field = f"done 3 4 jobs.f{number}\nqueue-{number}"
        pipe.hset(keys.history(f"now:{minute - 1 - number % 20}"), field, 1)
    pipe.execute()
    pack(redis)
    found = glance(redis, "1h")

    assert ends(history.read(redis, span="1h").whole) == (10_000, 0, 0, 0)
    assert len(found.functions) == len(found.queues) == history.MOST_SERIES + 1
    assert sum(one.done for one in found.functions.values()) == 10_000
    assert ends(history.read(redis, "function", history.OTHER).whole)[0] >= 9000


def test_minutes_of_functions_are_kept_for_two_days_those_of_queues_for_seven(redis):
    count(redis, 1)
    pack(redis)
    days = {
        key.decode()[-1]: round(redis.ttl(key) / 86400) for key in redis.keys(keys.history("60:*"))
    }

    assert days == {"f": 2, "q": 7, "t": 7}


def test_minutes_that_are_packed_at_the_same_time_are_all_counted(redis):
    for minutes in range(1, 9):
        count(redis, minutes)
    with ThreadPoolExecutor(4) as packers:
        list(packers.map(lambda _: pack(redis), range(40)))
    pack(redis)

    assert ends(history.read(redis, span="24h").whole) == (8, 0, 0, 0)


def test_a_minute_of_many_functions_stays_small(redis):
    minute = redis.time()[0] // 60
    for key in (minute, minute + 1):
        fields = {f"done 3 4 jobs.f{number}\nlow": 1 for number in range(5001)}
        redis.hset(keys.history(f"now:{key}"), mapping=fields)
    enqueue(redis)
    finish(redis, claim(redis)[0])

    assert ends(history.read(redis, "function", history.OTHER).whole) == (1, 0, 0, 0)


def packed(value):
    return zlib.compress(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xff" * 50, zlib.compress(b"odd"), packed([]), packed({"t:": []}), packed({1: {}}),
        packed({"t:": {0: [1] * 59}}), packed({"t:": {0: ["x"] * 60}}), packed({"t:": {-1: []}}),
        packed({"t:": {0: [-1] * 60}}), packed({"t:": {0: [2**60] * 60}}),
        packed({f"t:{number}": {} for number in range(2001)}),
    ],
)  # fmt: skip
def test_odd_data_is_left_out_and_replaced(redis, value):
    count(redis, 1)
    pack(redis)
    for key in redis.keys(keys.history("*:*:t")):
        redis.set(key, value)
    redis.hset(keys.history(f"now:{redis.time()[0] // 60}"), b"odd \xff", value)
    before = [ends(history.read(redis, *one).whole) for one in ((), ("function", NOTHING))]
    count(redis, 2)
    pack(redis)

    assert before == [(0, 0, 0, 0), (1, 0, 0, 0)]
    assert ends(history.read(redis, span="24h").whole) == (1, 0, 0, 0)


def test_samples_say_what_comes_into_a_queue_and_goes_out_of_it(redis):
    enqueue(redis, 100)
    first_s = redis.time()[0] - 40
    for now_s, ended in zip(range(first_s, first_s + 40, 10), [0, 30, 30, 30], strict=True):
        minute = now_s // 60
        if ended:
            redis.hincrby(keys.history(f"now:{minute}"), f"done 3 4 {NOTHING}\ndefault", ended)
            redis.ltrim(keys.queue("default"), 20, -1)
        history.sample(redis, now_s, [minute - 1, minute])
    flow = history.flows(redis)["default"]

    assert (flow.seconds, flow.out_per_s, flow.in_per_s) == (30, 3, 1)
    assert flow.drains_in_s == 20
    assert [(one.waiting, one.ended) for one in flow.samples] == [
        (100, 0), (80, 30), (60, 30), (40, 30),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "look",
    [
        "[" * 15_000, '[NOW, {"default": "x"}, {}]', '[NOW, {"default": 1}, {"5": 3}]',
        '[NOW, {"default": 1}, {"5": {"other": "x"}}]', '[NOW, {"default": 1%s}, {}]' % ("0" * 400),
        '[NOW, {"default": 1e999}, {}]', '[NOW, [], {}]', '["x", {"default": 1}, {}]',
    ],
)  # fmt: skip
def test_odd_samples_are_left_out(redis, look):
    for later_s in (0, 10, 20):
        raw = look.replace("NOW", f"{redis.time()[0] - 20 + later_s}")
        redis.lpush(keys.history("samples"), zlib.compress(raw.encode()))

    assert history.flows(redis) == {}


@pytest.mark.parametrize("odd", [dict.fromkeys(range(20_001), "x"), {"t:": "x" * 20_000_000}])
def test_what_is_larger_than_ours_can_be_is_not_read(redis, odd):
    """A supervisor that read it would lose its leases meanwhile."""
    count(redis, 2)
    now_s = redis.time()[0]
    redis.hset(keys.history(f"now:{now_s // 60 - 1}"), mapping=odd)
    large = zlib.compress(msgspec.msgpack.encode({"t:": {0: [0] * 11_000_000}}))
    redis.set(keys.history(f"86400:{now_s // 86400 // 64}:t"), large)
    pack(redis)

    assert redis.exists(keys.history(f"now:{now_s // 60 - 1}"))
    assert ends(history.read(redis).whole) == (1, 0, 0, 0)
    assert ends(history.read(redis, span="90d").whole) == (1, 0, 0, 0)


def test_of_minutes_that_are_larger_together_than_ours_can_be_the_newest_are_read(redis):
    this = redis.time()[0] // 60
    for minutes in (2, 4, 6):
        fields = {f"done 3 4 jobs.f{number}\nlow": minutes for number in range(9_000)}
        redis.hset(keys.history(f"now:{this - minutes}"), mapping=fields)
    read = ends(history.read(redis, now_s=this * 60).whole)
    pack(redis)

    assert read == ((2 + 4) * 9_000, 0, 0, 0)
    assert not redis.keys(keys.history("now:*"))
    assert ends(history.read(redis, now_s=this * 60).whole) == ((2 + 4 + 6) * 9_000, 0, 0, 0)


@pytest.mark.parametrize(("series", "is_read"), [(450, True), (500, False)])
def test_a_chunk_that_unpacks_to_more_than_ours_can_be_is_none(redis, series, is_read):
    """Each of its counts takes a page's time, and a supervisor's, however few bytes they are."""
    day = redis.time()[0] // 86400
    columns = dict.fromkeys(range(96), [1] * 64)
    chunk = packed({f"q:{number}": columns for number in range(series)})
    redis.set(keys.history(f"86400:{day // 64}:q"), chunk)
    found = glance(redis, "90d")
    count(redis, 1)
    pack(redis)

    assert set(found.queues) == {f"{number}" for number in range(series if is_read else 0)}
    assert "default" in glance(redis, "90d").queues


def test_chunks_that_unpack_to_more_together_than_ours_can_be_are_read_in_part(redis):
    hour, columns = redis.time()[0] // 3600, dict.fromkeys(range(96), [1] * 96)
    for kind in "qf":
        chunk = packed({f"{kind}:{number}": columns for number in range(200)})
        for number in range(3):
            redis.set(keys.history(f"3600:{hour // 96 - number}:{kind}"), chunk)
    found = glance(redis, "7d")
    ended = sum(ends(point)[0] for point in found.queues.values())
    ended += sum(ends(point)[0] for point in found.functions.values())

    assert 0 < ended <= 3 * 200 * 96


def test_a_long_backlog_is_packed_in_turns(redis, monkeypatch):
    """A supervisor renews its leases in between."""
    monkeypatch.setattr(history, "_PACK_S", -1)
    for minutes in range(1, 4):
        count(redis, minutes)
    history.pack(redis)
    left = redis.keys(keys.history("now:*"))
    pack(redis)

    assert len(left) == 2
    assert not redis.keys(keys.history("now:*"))


def test_only_the_newest_releases_are_read(redis):
    redis.zadd(keys.history("releases"), {f"v{number}": number for number in range(200)})

    assert len(history.releases(redis)) == 50
