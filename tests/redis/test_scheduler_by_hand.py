"""`Scheduler.enqueue_job` of rq-scheduler's API: an entry that a program enqueues itself."""

from datetime import UTC, datetime, timedelta

import pytest

from jiffy import keys
from jiffy.producer.enqueue import Job
from jobs import numbers

# As rq-scheduler reads a datetime without a zone.
LATER = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)


@pytest.fixture
def entry(scheduler):
    return scheduler.schedule(LATER, numbers.add, args=[2, 3], interval=600)


def queued(redis):
    return redis.lrange(keys.queue("default"), 0, -1)


def test_it_is_enqueued_before_its_time_and_stays_on_the_schedule(scheduler, entry, redis):
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id.encode()]
    assert entry in scheduler


@pytest.mark.filterwarnings("ignore:Version 0.22:FutureWarning")  # rq-scheduler's own
def test_a_cron_entry_that_is_enqueued_before_its_time_keeps_it(scheduler, redis):
    entry = scheduler.cron("0 0 1 1 *", numbers.add, args=[2, 3])
    before = redis.zscore(keys.ENTRIES, entry.id)
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id.encode()]
    assert redis.zscore(keys.ENTRIES, entry.id) == before


def test_the_job_at_hand_knows_that_it_was_enqueued(scheduler, entry):
    scheduler.enqueue_job(entry)

    assert entry.get_status(refresh=False) == "queued"
    assert entry.enqueued_at is not None


def test_it_is_enqueued_as_it_is_at_hand(scheduler, entry, redis):
    entry.meta["repeat"], entry.description = 1, "for the last time"
    scheduler.enqueue_job(entry)

    assert Job.fetch(entry.id, redis).description == "for the last time"
    assert entry not in scheduler


def test_a_job_that_is_not_on_the_schedule_is_enqueued_too(scheduler, entry, redis):
    scheduler.cancel(entry)
    entry.meta.clear()
    scheduler.enqueue_job(entry)

    assert queued(redis) == [entry.id.encode()]
    assert entry not in scheduler
