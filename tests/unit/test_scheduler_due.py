"""What a tick is: decided from an entry's hash, its slot and the time."""

import json
import pickle
from datetime import datetime, timedelta, timezone

import pytest

from jiffy.errors import JiffyError
from jiffy.scheduler import every, table
from jiffy.scheduler.due import tick
from jiffy.scheduler.loop import wait_after
from jiffy.scheduler.schedule import Look
from jobs import numbers

NOW = datetime(2026, 11, 20, 13, 40, 0, 2000, tzinfo=timezone.utc)
SLOT = datetime(2026, 11, 20, 13, 40, tzinfo=timezone.utc).timestamp()


def stored(**changes):
    """An entry's hash as Redis gives it."""
    line = every("10m", numbers.add, **{"args": [2, 3]} | changes)
    [entry], _ = table.read([line])
    return {
        key.encode(): value if isinstance(value, bytes) else str(value).encode()
        for key, value in entry.fields(NOW).items()
    }


def theirs(meta=None, **more):
    """The hash of an entry made with rq-scheduler's own API."""
    given = {"data": b"x", "origin": b"low"} | more | ({} if meta is None else {"meta": meta})
    return {key.encode(): value for key, value in given.items()}


def test_each_tick_is_a_job_of_its_own_named_after_its_entry_and_slot():
    made = tick("entry-jobs-numbers-add", SLOT, stored(), NOW)

    assert made.job_id == "jobs-numbers-add-20261120T134000Z"
    assert made.next_slot == SLOT + 600


def test_a_tick_has_the_options_of_its_entry():
    made = tick("entry-x", SLOT, stored(queue="low", timeout="2m", at_front=True), NOW)

    assert (made.queue, made.fields["timeout"], made.at_front) == ("low", b"120", True)


def test_a_tick_has_the_meta_of_its_entry_and_none_of_rq_schedulers():
    assert tick("entry-x", SLOT, stored(meta={"by": "me"}), NOW).fields["meta"] == '{"by": "me"}'
    assert "meta" not in tick("entry-x", SLOT, stored(), NOW).fields


def test_ticks_missed_while_no_scheduler_was_alive_are_one():
    made = tick("entry-x", SLOT, stored(), NOW + timedelta(days=3))

    assert made.next_slot == SLOT + timedelta(days=3, minutes=10).total_seconds()


def test_a_tick_taken_ahead_of_its_time_does_not_come_again_at_its_time():
    made = tick("entry-x", SLOT + 600, stored(), NOW)

    assert made.next_slot == SLOT + 1200


def test_an_entry_made_elsewhere_for_one_time_is_enqueued_itself_and_not_again():
    made = tick("abc", SLOT, theirs(), NOW)

    assert (made.job_id, made.next_slot, made.queue) == ("abc", None, "low")


@pytest.mark.parametrize("dumps", [lambda meta: json.dumps(meta).encode(), pickle.dumps])
def test_an_interval_made_elsewhere_counts_from_its_slot_and_does_not_drift(dumps):
    late = NOW + timedelta(seconds=5)

    assert tick("abc", SLOT, theirs(dumps({"interval": 60})), late).next_slot == SLOT + 60


@pytest.mark.parametrize(("repeat", "left", "goes_on"), [(3, 2, True), (1, 0, False)])
def test_repeats_are_counted_down(repeat, left, goes_on):
    made = tick("abc", SLOT, theirs(json.dumps({"interval": 60, "repeat": repeat}).encode()), NOW)

    assert json.loads(made.fields["meta"])["repeat"] == left
    assert (made.next_slot is not None) == goes_on


def test_a_cron_string_made_elsewhere_is_read_as_rq_scheduler_does():
    made = tick("abc", SLOT, theirs(b'{"cron_string": "*/15 * * * *"}'), NOW)

    assert made.next_slot == SLOT + 300


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


@pytest.mark.parametrize(
    "raw",
    [
        theirs(pickle.dumps({"interval": Bomb()})),
        theirs(b"\x00nonsense"),
        theirs(b"[1]"),
        theirs(b'{"interval": "often"}'),
        theirs(b'{"cron_string": "61 * * * *"}'),
        {b"origin": b"low"},
        {b"jiffy:timing": b"every 600", b"data": b"x"},
        stored() | {b"jiffy:timing": b"now and then"},
        stored() | {b"jiffy:entry": b"{"},
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_and_nothing_in_it_executed(raw):
    with pytest.raises((ValueError, KeyError, TypeError, JiffyError)):
        tick("abc", SLOT, raw, NOW)


@pytest.mark.parametrize(("ahead_s", "wait_s"), [(0.25, 0.25), (3600, 30), (None, 30)])
def test_the_next_entry_is_waited_for_but_clocks_are_compared_every_half_minute(ahead_s, wait_s):
    next_due = None if ahead_s is None else NOW + timedelta(seconds=ahead_s)

    assert wait_after(Look(NOW, [], next_due)) == wait_s
