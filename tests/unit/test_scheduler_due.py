"""What becomes of an entry that is due: worked out from its times, its policy and the time."""

import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from jiffy import keys
from jiffy.errors import JiffyError
from jiffy.scheduler import cron, every, foreign, table
from jiffy.scheduler.due import Found, plan
from jiffy.scheduler.loop import wait_after
from jiffy.scheduler.schedule import Look
from jobs import numbers

NOW = datetime(2026, 11, 20, 13, 40, 0, 2000, tzinfo=UTC)
SLOT = datetime(2026, 11, 20, 13, 40, tzinfo=UTC).timestamp()


def found(line=None, score=SLOT, **changes):
    """An entry as a look at the schedule finds it."""
    [entry], wrong = table.read([line or every("10m", numbers.add, **{"args": [2, 3]} | changes)])
    assert wrong == []
    fields = entry.fields(NOW)
    timing, policy = fields[keys.TIMING_FIELD].encode(), fields[keys.POLICY_FIELD].encode()
    return Found(entry.id, score, "table", timing, policy)


def theirs(meta=b""):
    """An entry made with rq-scheduler's own API, as a look at the schedule finds it."""
    return Found("abc", SLOT, "other", meta)


def at(text):
    return datetime.fromisoformat(f"2026-11-20T{text}+00:00")


def slots(ticks):
    return [f"{datetime.fromtimestamp(tick.slot, UTC):%H:%M}" for tick in ticks]


def test_each_tick_is_a_job_of_its_own_named_after_its_entry_and_slot():
    made = plan(found(), NOW)

    assert [tick.job_id for tick in made.ticks] == ["jobs-numbers-add-20261120T134000Z"]
    assert made.next_due == SLOT + 600


def test_a_tick_is_known_by_its_entry_its_queue_and_how_late_it_is():
    [tick] = plan(found(name="sum", queue="low"), NOW + timedelta(milliseconds=40)).ticks

    assert (tick.name, tick.queue, tick.late_ms) == ("sum", "low", 42)


def test_ticks_missed_while_no_scheduler_ran_are_one_the_last_and_the_others_are_told_of():
    made = plan(found(), at("14:11"))

    assert slots(made.ticks) == ["14:10"]
    assert slots(made.missed) == ["13:40", "13:50", "14:00"]
    assert made.next_due == at("14:20").timestamp()


@pytest.mark.parametrize(("now", "run"), [("14:10:20", ["14:10"]), ("14:11", [])])
def test_missed_ticks_are_left_out_if_asked_and_one_that_is_hardly_late_is_not_missed(now, run):
    made = plan(found(missed="skip"), at(now))

    assert slots(made.ticks) == run
    assert slots([*made.missed, *made.ticks]) == ["13:40", "13:50", "14:00", "14:10"]


def test_missed_ticks_are_a_job_each_if_asked():
    made = plan(found(missed="all", overlap="allow"), at("14:11"))

    assert slots(made.ticks) == ["13:40", "13:50", "14:00", "14:10"]
    assert made.missed == []


def test_of_a_long_absence_the_last_hundred_are_told_one_by_one_and_where_it_began():
    made = plan(found(every(1, numbers.add, args=[2, 3])), NOW + timedelta(days=400))

    assert len(made.missed) == 101
    assert made.missed[0].slot == SLOT
    assert made.missed[0].reason.startswith("no scheduler ran; of those that follow, the last 100 ")
    assert made.ticks[0].slot - made.missed[1].slot == 100
    assert made.next_due == made.ticks[0].slot + 1


def test_at_most_a_hundred_missed_ticks_are_enqueued_and_these_are_the_last():
    line = cron("* * * * *", numbers.add, args=[2, 3], missed="all")
    made = plan(found(line), at("17:40:01"))

    assert len(made.ticks) == 100
    assert slots(made.ticks)[-1] == "17:40"
    assert made.missed[0].slot == SLOT


def test_a_tick_taken_ahead_of_its_time_does_not_come_again_at_its_time():
    made = plan(found(score=SLOT + 600), NOW)

    assert made.next_due == SLOT + 1200


def test_an_entry_with_an_end_is_not_due_after_it():
    assert plan(found(end=at("13:45")), NOW).next_due is None


def test_jitter_moves_the_time_of_a_tick_and_neither_its_slot_nor_its_job():
    first = plan(found(jitter="9m"), NOW)
    second = plan(found(jitter="9m", score=first.next_due), at("13:59:59"))

    assert SLOT + 600 < first.next_due < SLOT + 600 + 540
    assert slots(second.ticks) == ["13:50"]
    assert second.ticks[0].job_id == "jobs-numbers-add-20261120T135000Z"
    assert second.missed == []


def test_jitter_differs_from_slot_to_slot_and_from_entry_to_entry():
    due, line = set(), found(jitter="9m")
    for _ in range(20):
        made = plan(line, NOW)
        due.add(made.next_due % 600)
        line = line._replace(score=made.next_due)

    assert len(due) == 20
    assert (
        plan(found(jitter="9m"), NOW).next_due != plan(found(jitter="9m", name="b"), NOW).next_due
    )


def test_a_slot_whose_jitter_is_not_over_yet_is_the_next():
    first = plan(found(jitter="9m"), NOW)
    between = datetime.fromtimestamp(first.next_due, UTC) - timedelta(milliseconds=1)

    assert plan(found(jitter="9m"), between).next_due == first.next_due


def test_an_entry_made_elsewhere_for_one_time_is_not_due_again():
    assert foreign.plan(theirs(), NOW).next_due is None


@pytest.mark.parametrize("dumps", [lambda meta: json.dumps(meta).encode(), pickle.dumps])
def test_an_interval_made_elsewhere_counts_from_its_slot_and_does_not_drift(dumps):
    late = NOW + timedelta(seconds=5)

    assert foreign.plan(theirs(dumps({"interval": 60})), late).next_due.timestamp() == SLOT + 60


@pytest.mark.parametrize(("repeat", "left", "goes_on"), [(3, 2, True), (1, 0, False)])
def test_repeats_are_counted_down(repeat, left, goes_on):
    made = foreign.plan(theirs(json.dumps({"interval": 60, "repeat": repeat}).encode()), NOW)

    assert json.loads(made.meta)["repeat"] == left
    assert (made.next_due is not None) == goes_on


def test_a_cron_string_made_elsewhere_is_read_as_rq_scheduler_does():
    made = foreign.plan(theirs(b'{"cron_string": "*/15 * * * *"}'), NOW)

    assert made.next_due.timestamp() == SLOT + 300


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


@pytest.mark.parametrize(
    "meta",
    [
        pickle.dumps({"interval": Bomb()}),
        b"\x00nonsense",
        b"[1]",
        b'{"interval": "often"}',
        b'{"cron_string": "61 * * * *"}',
    ],
)
def test_an_entry_made_elsewhere_that_makes_no_sense_is_refused_and_nothing_executed(meta):
    with pytest.raises((ValueError, TypeError)):
        foreign.plan(theirs(meta), NOW)


@pytest.mark.parametrize(
    "changes", [{"text": b"now and then"}, {"policy": b"{"}, {"policy": b"{}"}, {"policy": b""}]
)
def test_an_entry_of_the_table_that_makes_no_sense_is_refused(changes):
    with pytest.raises((ValueError, KeyError, TypeError, JiffyError)):
        plan(found()._replace(**changes), NOW)


@pytest.mark.parametrize(("ahead_s", "wait_s"), [(0.25, 0.252), (3600, 60), (None, 60)])
def test_the_next_entry_is_waited_for_but_clocks_are_compared_every_minute(ahead_s, wait_s):
    next_due = None if ahead_s is None else NOW + timedelta(seconds=ahead_s)

    assert wait_after(Look(NOW, [], next_due)) == pytest.approx(wait_s)


@pytest.mark.parametrize(("ahead_s", "wait_s"), [(-5, 1), (0.5, 1), (7, 7), (90, 60)])
def test_the_jobs_of_ticks_are_looked_after_when_they_may_be_over_once_a_second(ahead_s, wait_s):
    follow_up_at = NOW + timedelta(seconds=ahead_s)

    assert wait_after(Look(NOW, [], None, follow_up_at)) == pytest.approx(wait_s)
