"""When entries are due: a grid that does not drift, clocks that are changed, a start and an end."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.cron_times import At, Cron, Every
from jiffy.errors import InvalidValue

PARIS = ZoneInfo("Europe/Paris")

moments = st.integers(1_600_000_000, 2_200_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


NAIVE = datetime.fromisoformat("2026-12-24")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(st.integers(1, 10**7), moments)
def test_an_interval_lies_on_a_grid_and_the_next_time_is_its_nearest_point(interval_s, moment):
    found = Every.read(interval_s).next_after(moment)

    assert found.timestamp() % interval_s == 0
    assert timedelta() < found - moment <= timedelta(seconds=interval_s)


@pytest.mark.parametrize(
    "interval", ["10x", "", "99999w", -5, 0, 0.5, "1.5s", None, True, float("nan")]
)
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(InvalidValue, match="every is"):
        Every.read(interval)


def test_at_is_due_once():
    once = At.read(datetime(2026, 12, 24, 9, tzinfo=PARIS))

    assert once.next_after(at("2026-12-24 07:59:59")) == at("2026-12-24 08:00")
    assert once.next_after(at("2026-12-24 08:00")) is None
    assert once.in_words() == "once, at 2026-12-24 09:00 CET"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 3, 29, 2, 30, tzinfo=PARIS), "2026-03-29 01:00"),
        (datetime(2026, 10, 25, 2, 30, tzinfo=PARIS), "2026-10-25 00:30"),
        (datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1), "2026-10-25 01:30"),
        (datetime(2026, 7, 1, 9, tzinfo=timezone(timedelta(hours=5))), "2026-07-01 04:00"),
        (datetime(2026, 7, 1, 9, 0, 0, 999, tzinfo=UTC), "2026-07-01 09:00"),
    ],
)
def test_at_keeps_to_the_rules_of_changed_clocks(moment, expected):
    assert At.read(moment).moment == at(expected)


@pytest.mark.parametrize("moment", ["2026-12-24", 5, None, at("2026-12-24").date(), NAIVE])
def test_a_moment_without_a_zone_is_refused(moment):
    with pytest.raises(InvalidValue, match=r"at is .*; it must be a datetime with a zone"):
        At.read(moment)
    with pytest.raises(InvalidValue, match=r"start is .*; it must be a datetime with a zone"):
        Every.read(60).within(moment or NAIVE, None)


def test_a_moment_that_no_calendar_has_in_utc_is_refused():
    with pytest.raises(InvalidValue, match=r"at is .*; it must be in the years 1 to 9999 of UTC"):
        At.read(datetime.fromisoformat("9999-12-31T23:59:59-14:00"))


def test_an_interval_is_counted_from_its_start_until_its_end_and_both_are_included():
    weekly = Every.read("1w").within(datetime(2026, 12, 7, 6, tzinfo=PARIS), at("2026-12-14 05:00"))

    assert list(weekly.after(at("2026-11-20"))) == [at("2026-12-07 05:00"), at("2026-12-14 05:00")]
    assert weekly.in_words() == "every 7d from 2026-12-07 05:00 UTC until 2026-12-14 05:00 UTC"


def test_an_end_that_leaves_no_time_at_all_is_refused():
    with pytest.raises(InvalidValue, match=r"end is .*; it must be late enough for a run"):
        Every.read(60).within(at("2026-12-02"), at("2026-12-01"))
    with pytest.raises(InvalidValue, match=r"end is .*; it must be late enough for a run"):
        Cron.read("@yearly").within(at("2026-02-01"), at("2026-12-01"))


ANY = st.one_of(
    st.integers(1, 10**6).map(Every.read),
    st.sampled_from(["* * * * *", "0 6 * * mon", "*/7 5 0-6 * * *", "30 2 29 2 *"]).map(
        lambda text: Cron.read(text, "Europe/Paris")
    ),
)


@given(ANY, moments, st.none() | moments, st.none() | moments)
def test_a_sequence_of_times_is_that_of_one_after_another(timing, moment, start, end):
    try:
        timing = timing.within(start, end)
    except InvalidValue:
        return
    slots, one_by_one = list(islice(timing.after(moment), 5)), []
    while len(one_by_one) < 5 and (moment := timing.next_after(moment)):
        one_by_one.append(moment)

    assert slots == one_by_one
    assert all((not start or start <= slot) and (not end or slot <= end) for slot in slots)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Pariss", "Europe/Paris"), ("europe/paris", "Europe/Paris"),
        ("Paris", "Europe/Paris"), ("new york", "America/New_York"),
    ],
)  # fmt: skip
def test_an_unknown_zone_is_refused_with_the_nearest_one(name, hint):
    with pytest.raises(InvalidValue, match=f"timezone is '{name}'.*did you mean '{hint}'"):
        Cron.read("0 6 * * *", name)


@pytest.mark.parametrize(
    "name", ["", "../etc/passwd", "/etc/localtime", "Europe", 5, None,
             "localtime", "posixrules", "Local", "LOCALTIME"],
)  # fmt: skip
def test_what_is_no_zone_is_refused_and_that_of_the_machine_never_proposed(name):
    with pytest.raises(InvalidValue, match="timezone is") as refused:
        Cron.read("0 6 * * *", name)

    assert "did you mean 'localtime'" not in str(refused.value)
    assert "did you mean 'posixrules'" not in str(refused.value)
