"""The schedule in Redis: a tick is enqueued once, and a broken entry hurts only itself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import rq_scheduler

from jiffy import Retry, connection, entries, keys
from jiffy.producer.enqueue import Job
from jiffy.scheduler import cron, declared, every, schedule, table
from jiffy.scheduler.schedule import Scheduler
from jobs import numbers
from tests.support.newcomer import PATIENCE_S
from tests.support.weekly import weekly


@pytest.fixture
def make_due(redis):
    """Let the time of all entries, or of some, be a moment ago."""

    def move(*ids):
        for entry_id in ids or redis.zrange(keys.ENTRIES, 0, -1):
            redis.zadd(keys.ENTRIES, {entry_id: redis.time()[0] - 1})

    return move


def add(**changes):
    return weekly(numbers.add, **{"args": [2, 3]} | changes)


def queued(redis, name="default"):
    return [job_id.decode() for job_id in redis.lrange(keys.queue(name), 0, -1)]


def next_times(redis):
    return dict(redis.zrange(keys.ENTRIES, 0, -1, withscores=True))


def test_each_tick_runs_as_a_job_with_its_own_result(scheduler, declare, make_due, work, redis):
    declare(add(overlap="allow"))
    for _ in range(2):
        make_due()
        redis.zadd(keys.ENTRIES, {"entry-jobs-numbers-add": redis.time()[0] - len(queued(redis))})
        scheduler.enqueue_jobs()
    first, second = queued(redis)
    work()

    assert first != second
    assert [Job.fetch(id_, redis).return_value() for id_ in (first, second)] == [5, 5]


def test_a_job_tells_which_entry_made_it(scheduler, declare, make_due, redis):
    declare(add(name="sum"))
    make_due()
    [tick] = scheduler.enqueue_jobs()

    assert redis.hget(keys.job(tick.job_id), keys.TICK_OF_FIELD) == b"sum"


def test_a_ticks_job_is_what_the_line_of_the_table_says(scheduler, declare, make_due, redis):
    declare(add(queue="low", ttl="10m", timeout="2m", meta={"by": "me"}, rescue=False))
    make_due()
    [tick] = scheduler.enqueue_jobs()
    job = Job.fetch(tick.job_id, redis)

    assert (job.origin, job.timeout, job.meta, job.get_status()) == (
        "low",
        120,
        {"by": "me"},
        "queued",
    )
    assert 0 < redis.ttl(job.key) <= 600
    assert redis.smembers(keys.QUEUES) == {keys.queue("low").encode()}
    ours = {name.decode() for name in redis.hkeys(job.key) if name.startswith(b"jiffy:")}
    assert ours == {keys.TICK_OF_FIELD, keys.RESCUE_FIELD}


def test_what_is_not_due_is_left_alone(scheduler, declare, redis):
    declare(add())

    assert scheduler.enqueue_jobs() == []
    assert queued(redis) == []


def test_a_slot_that_two_schedulers_saw_is_enqueued_once(scheduler, declare, make_due, redis):
    declare(add())
    make_due()
    other = Scheduler(connection=redis)
    seen, seen_by_other = scheduler.look(), other.look()

    assert len(scheduler.enqueue_due(seen)) == 1
    assert other.enqueue_due(seen_by_other) == []
    assert len(queued(redis)) == 1


def test_many_schedulers_at_once_double_nothing_and_lose_nothing(scheduler, declare, make_due):
    declare(*(add(name=f"sum-{n}") for n in range(100)))
    make_due()
    together = Barrier(4, timeout=PATIENCE_S)

    def enqueue(_):
        with connection.connect("test") as redis:
            one = Scheduler(connection=redis)
            together.wait()
            return [tick.job_id for tick in one.enqueue_jobs()]

    with ThreadPoolExecutor(4) as pool:
        enqueued = [job_id for found in pool.map(enqueue, range(4)) for job_id in found]

    assert len(enqueued) == len(set(enqueued)) == 100
    assert sorted(enqueued) == sorted(queued(scheduler.connection))


def test_a_slot_set_back_by_hand_is_not_done_twice(scheduler, declare, make_due, redis):
    declare(add(overlap="allow"))
    make_due()
    [tick] = scheduler.enqueue_jobs()
    before = next_times(redis)
    redis.zadd(keys.ENTRIES, {tick.entry_id: tick.slot})

    assert scheduler.enqueue_jobs() == []
    assert queued(redis) == [tick.job_id]
    assert next_times(redis) == before


def test_an_entry_that_is_at_the_front_goes_ahead_of_what_waits(
    scheduler, declare, make_due, redis
):
    redis.rpush(keys.queue("default"), "waiting")
    declare(add(at_front=True))
    make_due()
    [tick] = scheduler.enqueue_jobs()

    assert queued(redis) == [tick.job_id, "waiting"]


def test_a_deploy_leaves_an_unchanged_entry_its_next_time(declare, make_due, redis):
    declare(add())
    make_due()
    before = next_times(redis)

    assert declare(add()) == {"new": 0, "changed": 0, "same": 1, "gone": 0, "over": 0}
    assert next_times(redis) == before


def test_a_changed_option_is_taken_over_and_leaves_the_next_time(
    scheduler, declare, make_due, redis
):
    declare(add(queue="low"))
    make_due()
    before = next_times(redis)

    assert declare(add(queue="high"))["changed"] == 1
    assert next_times(redis) == before
    assert [tick.queue for tick in scheduler.enqueue_jobs()] == ["high"]


def test_ticks_are_tried_again_and_expire_as_their_entry_says(
    scheduler, declare, make_due, redis, work
):
    retry = Retry(max=3, pause="2s", fatal=ValueError)
    declare(add(retry=retry, expires="5m"))
    make_due()
    (tick,) = scheduler.enqueue_jobs()
    stored = redis.hgetall(keys.job(tick.job_id))

    assert stored[b"jiffy:retry"].decode() == retry.text
    assert (stored[b"retry_intervals"], stored[b"jiffy:expires"]) == (b"[2, 4, 8]", b"300")
    redis.zadd(keys.EXPIRING, {tick.job_id: 1})
    assert work() == 0
    assert declare(add(retry=retry, expires="6m"))["changed"] == 1
    assert declare(add(retry=Retry(max=3, pause="2s"), expires="6m"))["changed"] == 1


def test_a_changed_time_is_taken_over(declare, redis):
    declare(cron("0 6 * * *", numbers.add, args=[2, 3]))
    changes = declare(cron("0 7 * * *", numbers.add, args=[2, 3]))
    [due] = next_times(redis).values()

    assert changes["changed"] == 1
    assert datetime.fromtimestamp(due, UTC).hour == 7


def test_an_entry_that_left_the_table_is_gone_and_its_jobs_stay(
    scheduler, declare, make_due, redis
):
    declare(add(), add(name="other"))
    make_due("entry-other")
    [tick] = scheduler.enqueue_jobs()

    assert declare(add()) == {"new": 0, "changed": 0, "same": 1, "gone": 1, "over": 0}
    assert declare(add()) == {"new": 0, "changed": 0, "same": 1, "gone": 0, "over": 0}
    assert list(next_times(redis)) == [b"entry-jobs-numbers-add"]
    assert not redis.exists(keys.job("entry-other"))
    assert queued(redis) == [tick.job_id]


def test_a_new_time_is_given_once_when_two_schedulers_start_together(redis):
    [entry], _ = table.read([every("10m", numbers.add, args=[2, 3])])
    earlier = datetime(2026, 11, 20, 13, 59, 59, tzinfo=UTC)
    moments = [earlier + timedelta(seconds=n) for n in (0, 2)]
    answers = [declared.declare(redis, [entry], moment)[0].what for moment in moments]

    assert answers == ["new", "same"]
    assert list(next_times(redis).values()) == [(earlier + timedelta(seconds=1)).timestamp()]


def test_a_schedule_that_redis_has_lost_is_declared_again(scheduler, redis):
    entries, _ = table.read([add()])
    table.restore(scheduler, entries)

    assert list(next_times(redis)) == [b"entry-jobs-numbers-add"]


def test_stock_tools_see_the_schedule(declare, redis):
    declare(add(), cron("0 6 * * mon", numbers.add, args=[2, 3], name="weekly"))
    stock = rq_scheduler.Scheduler(connection=redis, job_class=Job)

    assert stock.count() == 2
    assert {job.id: job.meta for job in stock.get_jobs()} == {
        "entry-jobs-numbers-add": {"interval": 7 * 86400},
        "entry-weekly": {"cron_string": "0 6 * * mon"},
    }


def test_an_entry_can_be_cancelled_and_moved_with_rq_schedulers_api(scheduler, declare, redis):
    declare(add(), add(name="other"))
    scheduler.cancel("entry-other")
    later = datetime(2999, 1, 1, tzinfo=UTC)
    [job] = scheduler.get_jobs()
    scheduler.change_execution_time(job, later)

    assert next_times(redis) == {b"entry-jobs-numbers-add": later.timestamp()}


@pytest.fixture
def make(redis):
    """Make an entry with rq-scheduler's own API, through its class or ours."""
    stock = rq_scheduler.Scheduler(connection=redis)
    ours = Scheduler(connection=redis)
    return {"stock": stock, "ours": ours}


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_entries_made_at_run_time_stay_and_keep_running(
    whose, make, scheduler, declare, make_due, redis
):
    job = make[whose].schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60)
    make_due()
    [slot] = next_times(redis).values()
    declare(add())

    assert [tick.job_id for tick in scheduler.enqueue_jobs()] == [job.id]
    assert queued(redis) == [job.id]
    assert next_times(redis)[job.id.encode()] == slot + 60
    assert declare()["gone"] == 1
    assert list(next_times(redis)) == [job.id.encode()]


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_a_job_made_at_run_time_for_one_moment_runs_once(whose, make, scheduler, redis):
    job = make[whose].enqueue_at(datetime(2026, 1, 1, tzinfo=UTC), numbers.add, 2, 3)
    scheduler.enqueue_jobs()
    scheduler.enqueue_jobs()

    assert queued(redis) == [job.id]
    assert next_times(redis) == {}


def test_an_entry_made_at_run_time_that_two_schedulers_saw_is_enqueued_once(scheduler, redis):
    job = scheduler.enqueue_at(datetime(2026, 1, 1, tzinfo=UTC), numbers.add, 2, 3, job_ttl=60)
    seen = scheduler.look()
    both = [len(Scheduler(connection=redis).enqueue_due(seen)) for _ in range(2)]

    assert both == [1, 0]
    assert queued(redis) == [job.id]
    assert 0 < redis.ttl(job.key) <= 60
    assert redis.hget(job.key, "timeout") == b"180"


def test_an_entry_repeats_as_often_as_it_should_and_no_more(scheduler, make_due, redis):
    scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60, repeat=2)
    for _ in range(4):
        if next_times(redis):
            make_due()
        scheduler.enqueue_jobs()

    assert len(queued(redis)) == 2


# rq-scheduler does not heed what the package `crontab` says of its own next version.
@pytest.mark.filterwarnings("ignore:Version 0.22:FutureWarning")
def test_a_job_made_at_run_time_ends_with_its_result(scheduler, make_due, work):
    job = scheduler.cron("0 6 * * mon", numbers.add, args=[2, 3])
    make_due()
    scheduler.enqueue_jobs()
    work()

    assert job.return_value() == 5


def test_a_job_that_waits_for_another_is_not_enqueued_before_it(scheduler, work, redis):
    first = Job.create(numbers.add, args=(1, 1), connection=redis, origin="default")
    first.save()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    second = scheduler.enqueue_at(moment, numbers.add, 2, 3, depends_on=first)
    scheduler.enqueue_jobs()

    assert queued(redis) == []
    assert second.get_status() == "deferred"


def test_a_broken_entry_is_reported_once_and_stops_no_other(
    scheduler, declare, make_due, redis, caplog
):
    caplog.set_level("INFO", "jiffy")
    declare(add(), add(name="broken"), add(name="wrong-queue", queue="not-a-list"))
    redis.hset(keys.job("entry-broken"), keys.POLICY_FIELD, "{")
    redis.set(keys.queue("not-a-list"), "text")
    redis.set(keys.job("not-a-hash"), "text")
    redis.zadd(keys.ENTRIES, {"not-a-hash": 1})
    make_due()

    assert [tick.name for tick in scheduler.enqueue_jobs()] == ["jobs.numbers.add"]
    assert scheduler.enqueue_jobs() == []
    broken = [line for line in caplog.messages if line.startswith("entry.broken")]
    assert sorted(line.split()[1] for line in broken) == [
        "entry=entry-broken", "entry=entry-wrong-queue", "entry=not-a-hash",
    ]  # fmt: skip


@pytest.mark.parametrize("score", [1, 1.7e12, float("inf"), float("-inf")])
@pytest.mark.parametrize("member", [b"\xff", "nobodys"])
def test_what_another_program_has_broken_in_the_schedule_ends_no_scheduler_and_no_page(
    scheduler, declare, make_due, redis, member, score
):
    declare(add())
    make_due()
    redis.zadd(keys.ENTRIES, {member: score})

    assert [tick.name for tick in scheduler.enqueue_jobs()] == ["jobs.numbers.add"]
    assert "jobs.numbers.add" in [state.name for state in entries.read(redis)]
    assert entries.glance(redis).entries >= 1


def test_an_entry_that_is_mended_and_breaks_again_is_told_of_again(
    scheduler, declare, redis, monkeypatch
):
    monkeypatch.setattr(schedule, "_ASIDE", timedelta(0))
    declare(add(overlap="allow"))
    told = []
    for slot, broken in enumerate([True, True, False, True]):
        redis.delete(keys.queue("default"))
        if broken:
            redis.set(keys.queue("default"), "text")
        redis.zadd(keys.ENTRIES, {"entry-jobs-numbers-add": redis.time()[0] - 100 + slot})
        scheduler.enqueue_jobs()
        told.append(len(scheduler.newly_broken()))

    assert told == [1, 0, 0, 1]


def test_a_tick_that_could_not_be_enqueued_is_enqueued_later(scheduler, declare, make_due, redis):
    declare(add())
    make_due()
    redis.set(keys.queue("default"), "text")
    scheduler.enqueue_jobs()
    redis.delete(keys.queue("default"))
    [tick] = Scheduler(connection=redis).enqueue_jobs()

    assert queued(redis) == [tick.job_id]


def test_an_entry_made_at_run_time_whose_job_was_deleted_is_taken_off_the_schedule(
    scheduler, redis
):
    job = scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60)
    redis.delete(job.key)

    assert scheduler.enqueue_jobs() == []
    assert next_times(redis) == {}


def test_an_entry_of_the_table_whose_job_was_deleted_waits_for_who_has_the_table(
    scheduler, declare, make_due, redis
):
    declare(add())
    make_due()
    before = next_times(redis)
    redis.delete(keys.job("entry-jobs-numbers-add"))

    assert scheduler.enqueue_jobs() == []
    assert next_times(redis) == before
    assert [entry_id for entry_id, _, _ in scheduler.newly_broken()] == ["entry-jobs-numbers-add"]


def test_a_scheduler_that_lives_says_so_under_rq_schedulers_key(scheduler, redis):
    scheduler.heartbeat()

    assert redis.ttl(scheduler.key) > 0
