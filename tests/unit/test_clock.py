"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy import clock
from jiffy.errors import InvalidValue


@pytest.mark.parametrize(
    ("written", "meant_s"),
    [
        (90, 90), (0.5, 0.5), ("90", 90), ("1.5", 1.5), ("90s", 90), ("250ms", 0.25), ("5m", 300),
        ("10 min", 600), ("1h30m", 5400), ("1h 30m", 5400), (" 2d ", 172_800), ("1w", 604_800),
        (timedelta(minutes=2), 120),
    ],
)  # fmt: skip
def test_a_duration_is_a_number_a_text_or_a_timedelta(written, meant_s):
    assert clock.seconds(written) == meant_s


@pytest.mark.parametrize("written", ["", "soon", "5 parsecs", "m5", "-5m", -1, True, None, "nan"])
def test_what_is_no_duration_is_refused_under_its_own_name(written):
    with pytest.raises(
        InvalidValue, match=r"^timeout is .*; it must be 0 or more seconds, or a string such as"
    ):
        clock.seconds(written, "timeout")


@given(st.integers(min_value=60, max_value=30 * 86_400))
def test_a_duration_in_words_means_the_same_when_it_is_read_back(duration_s):
    assert clock.seconds(clock.in_words(duration_s)) == duration_s


@pytest.mark.parametrize(
    ("duration_s", "words"),
    [
        (0.0123, "12 ms"), (1.234, "1.23 s"), (60, "1m"), (90, "1m30s"), (7200, "2h"),
        (90_000, "1d1h"),
    ],
)  # fmt: skip
def test_a_duration_in_words_is_as_short_as_a_person_would_say_it(duration_s, words):
    assert clock.in_words(duration_s) == words
