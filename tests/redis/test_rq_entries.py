"""Entries that programs make at run time, through rq-scheduler's own API: its class, or ours."""

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import rq_scheduler

from jiffy import clock, keys
from jiffy.control import entries, read
from jiffy.producer.enqueue import Job
from jiffy.scheduler.rq_entries import Scheduler
from jiffy.scheduler.state import TRY_BROKEN_AGAIN_S
from jobs import numbers
from tests.support import schedules
from tests.support.weekly import weekly
from tests.support.worker_support import queued

# As rq-scheduler reads a datetime without a zone.
LATER = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
PAST = datetime(2026, 1, 1, tzinfo=UTC)

# rq-scheduler does not heed what the package `crontab` says of its own next version.
pytestmark = pytest.mark.filterwarnings("ignore:Version 0.22:FutureWarning")


def next_times(redis):
    return dict(redis.zrange(keys.ENTRIES, 0, -1, withscores=True))


@pytest.fixture
def make_due(redis):
    """Let the time of all entries be a moment ago."""

    def move():
        for entry_id in redis.zrange(keys.ENTRIES, 0, -1):
            redis.zadd(keys.ENTRIES, {entry_id: redis.time()[0] - 1})

    return move


@pytest.fixture
def make(redis):
    """Make an entry with rq-scheduler's own API, through its class or ours."""
    stock = rq_scheduler.Scheduler(connection=redis)
    return {"stock": stock, "ours": Scheduler(connection=redis)}


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_entries_made_at_run_time_stay_and_keep_running(
    whose, make, scheduler, declare, make_due, redis
):
    job = make[whose].schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60)
    make_due()
    [slot] = next_times(redis).values()
    declare(weekly(numbers.add, args=[2, 3]))

    assert scheduler.enqueue_jobs() == [job.id]
    assert queued(redis) == [job.id]
    assert next_times(redis)[job.id.encode()] == slot + 60
    assert declare()["gone"] == 1
    assert list(next_times(redis)) == [job.id.encode()]


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_a_job_made_at_run_time_for_one_moment_runs_once(whose, make, scheduler, redis):
    job = make[whose].enqueue_at(PAST, numbers.add, 2, 3, job_ttl=60)
    other = Scheduler(connection=redis)

    assert [scheduler.enqueue_jobs(), other.enqueue_jobs()] == [[job.id], []]
    assert queued(redis) == [job.id]
    assert next_times(redis) == {}
    assert 0 < redis.ttl(job.key) <= 60
    assert redis.hget(job.key, "timeout") == b"180"


@pytest.mark.parametrize("repeat", [None, 2])
def test_meta_of_a_stock_entry_may_hold_a_date_which_nothing_makes(
    make, scheduler, redis, caplog, repeat
):
    meta = {"asked": PAST, "by": {Decimal(1): [UUID(int=1)]}}
    options = {"interval": 60, "repeat": repeat, "meta": meta}
    job = make["stock"].schedule(datetime.now(UTC), numbers.add, args=[2, 3], **options)
    stored = redis.hget(job.key, "meta")
    [slot] = next_times(redis).values()
    done = scheduler.enqueue_jobs()

    if repeat:  # its count cannot be written back
        assert done == []
        assert "its meta holds more than numbers" in caplog.text
    else:
        assert done == queued(redis) == [job.id]
        assert next_times(redis) == {job.id.encode(): slot + 60}
    assert redis.hget(job.key, "meta") == stored


def test_entries_of_the_schedule_are_left_to_the_process_that_has_it(scheduler, declare, redis):
    declare(weekly(numbers.add, args=[2, 3]))
    redis.zadd(keys.ENTRIES, {"entry-jobs-numbers-add": 1})

    assert scheduler.enqueue_jobs() == []
    assert queued(redis) == []
    assert redis.zcard(keys.ENTRIES) == 1


def test_an_entry_repeats_as_often_as_it_should_and_no_more(scheduler, make_due, redis):
    scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60, repeat=2)
    for _ in range(4):
        make_due()
        scheduler.enqueue_jobs()

    assert len(queued(redis)) == 2


def test_an_entry_can_be_cancelled_and_moved_with_rq_schedulers_api(scheduler, redis):
    job, other = (scheduler.enqueue_at(PAST, numbers.add, 2, 3) for _ in range(2))
    scheduler.cancel(other)
    later = datetime(2999, 1, 1, tzinfo=UTC)
    scheduler.change_execution_time(job, later)

    assert next_times(redis) == {job.id.encode(): later.timestamp()}


def test_an_entry_whose_job_was_deleted_is_taken_off_the_schedule(scheduler, redis):
    job = scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60)
    redis.delete(job.key)

    assert scheduler.enqueue_jobs() == []
    assert next_times(redis) == {}


def test_a_broken_entry_is_reported_once_and_stops_no_other(scheduler, redis, caplog):
    caplog.set_level("INFO", "jiffy")
    good = scheduler.enqueue_at(PAST, numbers.add, 2, 3)
    nonsense = scheduler.enqueue_at(PAST, numbers.add, 2, 3)
    redis.hset(nonsense.key, "meta", b"\x00nonsense")
    wrong = scheduler.enqueue_at(PAST, numbers.add, 2, 3, queue_name="not-a-list")
    redis.set(keys.queue("not-a-list"), "text")
    redis.set(keys.job("not-a-hash"), "text")
    redis.zadd(keys.ENTRIES, {"not-a-hash": 1})

    assert scheduler.enqueue_jobs() == [good.id]
    assert scheduler.enqueue_jobs() == []
    broken = [line for line in caplog.messages if line.startswith("entry.broken")]
    assert {line.split()[1] for line in broken} == {
        f"entry={nonsense.id}", f"entry={wrong.id}", "entry=not-a-hash",
    }  # fmt: skip
    assert len(broken) == 3
    redis.delete(keys.queue("not-a-list"))
    assert Scheduler(connection=redis).enqueue_jobs() == [wrong.id]


def test_an_entry_that_depends_on_too_many_jobs_is_broken(scheduler, redis):
    entry = scheduler.enqueue_at(PAST, numbers.add, 1, 2)
    redis.hset(entry.key, "dependency_ids", json.dumps([str(number) for number in range(10_001)]))

    assert scheduler.enqueue_jobs() == []
    assert [*next_times(redis)] == [entry.id.encode()]


def test_an_entry_that_depends_on_thousands_of_jobs_that_are_over_waits_for_none(scheduler, redis):
    entry = scheduler.enqueue_at(PAST, numbers.add, 1, 2)
    redis.hset(entry.key, "dependency_ids", json.dumps([str(number) for number in range(9_000)]))

    assert scheduler.enqueue_jobs() == [entry.id]
    assert queued(redis) == [entry.id]


def test_many_broken_entries_are_tried_in_turns_and_delay_no_other(scheduler, redis):
    redis.zadd(keys.ENTRIES, {f"broken {number}": number for number in range(1000)})
    for entry_id, _ in redis.zscan_iter(keys.ENTRIES):
        redis.hset(keys.job(entry_id.decode()), "created_at", "2026-01-01")
    good = scheduler.enqueue_at(PAST + timedelta(days=1), numbers.add, 2, 3)
    looks = [scheduler.enqueue_jobs()]
    while scheduler.is_behind:
        looks.append(scheduler.enqueue_jobs())

    assert looks == [*[[]] * (len(looks) - 1), [good.id]]
    assert len(looks) > 5


def test_broken_entries_that_were_taken_off_the_schedule_put_off_no_other(
    scheduler, redis, monkeypatch
):
    for number in range(1000):
        redis.hset(keys.job(f"broken-{number}"), "created_at", "2026-01-01")
        redis.zadd(keys.ENTRIES, {f"broken-{number}": number})
    scheduler.enqueue_jobs()
    while scheduler.is_behind:
        scheduler.enqueue_jobs()
    redis.delete(keys.ENTRIES)
    entry = scheduler.enqueue_at(PAST, numbers.add, 2, 3)
    redis.set(keys.queue("default"), "no list")
    assert scheduler.enqueue_jobs() == []
    redis.delete(keys.queue("default"))
    later = clock.monotonic() + TRY_BROKEN_AGAIN_S + 1
    monkeypatch.setattr("jiffy.clock.monotonic", lambda: later)

    assert scheduler.enqueue_jobs() == [entry.id]


@pytest.mark.parametrize("queue", ["LOADING", "READONLY", "OOM "])
def test_a_broken_entry_whose_queue_is_named_like_an_error_stops_no_other(queue, scheduler, redis):
    scheduler.queue_name = queue
    broken = scheduler.enqueue_at(PAST, numbers.add, 1, 2)
    redis.set(keys.queue(queue), "no list")
    scheduler.queue_name = "default"
    good = scheduler.enqueue_at(PAST + timedelta(days=1), numbers.add, 2, 3)

    assert scheduler.enqueue_jobs() == [good.id]
    assert [*next_times(redis)] == [broken.id.encode()]


@pytest.mark.parametrize("score", [1, 1.7e12, float("inf"), float("-inf")])
@pytest.mark.parametrize("member", [b"\xff", "unknown"])
def test_what_another_program_has_broken_in_the_sorted_set_ends_no_scheduler_and_no_page(
    scheduler, declare, redis, member, score
):
    declare(weekly(numbers.add, args=[2, 3]))
    redis.zadd(keys.ENTRIES, {member: score})

    assert scheduler.enqueue_jobs() == []
    assert [one.outcome for one in schedules.run_next(declare.schedule)] == ["enqueued"]
    assert "jobs.numbers.add" in [state.name for state in entries.read(redis)]
    assert read.census(redis).entries >= 1


# Enqueued by hand


@pytest.fixture
def entry(scheduler):
    return scheduler.schedule(LATER, numbers.add, args=[2, 3], interval=600)


def test_it_is_enqueued_before_its_time_and_stays_on_the_schedule(scheduler, entry, redis):
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id]
    assert entry in scheduler


def test_a_cron_entry_that_is_enqueued_before_its_time_keeps_it(scheduler, redis):
    entry = scheduler.cron("0 0 1 1 *", numbers.add, args=[2, 3])
    before = redis.zscore(keys.ENTRIES, entry.id)
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id]
    assert redis.zscore(keys.ENTRIES, entry.id) == before


def test_it_is_enqueued_as_it_is_at_hand(scheduler, entry, redis):
    entry.meta["repeat"], entry.description = 1, "for the last time"
    scheduler.enqueue_job(entry)

    assert Job.fetch(entry.id, redis).description == "for the last time"
    assert entry not in scheduler


def test_a_job_that_is_not_on_the_schedule_is_enqueued_too(scheduler, entry, redis):
    scheduler.cancel(entry)
    entry.meta.clear()
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id]
    assert entry not in scheduler


# In one step


def test_an_entry_made_at_run_time_is_written_in_one_step(scheduler, redis):
    redis.config_resetstat()
    job = scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60)
    calls = redis.info("commandstats")

    assert job.connection is redis
    assert calls["cmdstat_exec"]["calls"] == calls["cmdstat_hset"]["calls"] == 1


def test_a_first_time_lies_ahead_also_in_the_hour_that_a_clock_shows_twice(
    scheduler, redis, monkeypatch
):
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        monkeypatch.setattr(clock, "now", lambda: datetime(2026, 10, 25, 1, 10, tzinfo=UTC))
        job = scheduler.cron("30 2 * * *", numbers.add, args=[2, 3])
    finally:
        monkeypatch.undo()
        time.tzset()

    first = datetime.fromtimestamp(redis.zscore(keys.ENTRIES, job.id), UTC)
    assert first == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_an_entry_that_was_enqueued_just_now_cannot_be_moved_and_so_done_twice(scheduler, redis):
    job = scheduler.enqueue_in(timedelta(0), numbers.add, 2, 3)
    scheduler.enqueue_jobs()
    with pytest.raises(ValueError, match="not in scheduled jobs"):
        scheduler.change_execution_time(job, datetime(2999, 1, 1, tzinfo=UTC))

    assert redis.zcard(keys.ENTRIES) == 0


def test_a_job_that_waits_for_another_runs_after_it(scheduler, work, redis):
    first = Job.create(numbers.add, args=(1, 1), connection=redis, origin="default")
    first.save()
    second = scheduler.enqueue_in(timedelta(0), numbers.add, 2, 3, depends_on=first)
    scheduler.enqueue_jobs()
    assert second.get_status() == "deferred"
    redis.rpush(keys.queue("default"), first.id)
    work()

    assert second.return_value() == 5
    assert json.loads(redis.hget(second.key, "dependency_ids")) == [first.id]
