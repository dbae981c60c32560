"""Times of an entry as a person says them."""

import pytest

from jiffy.dashboard.words import times as in_words


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("0 6 * * mon", "Europe/Paris", "every Monday at 06:00, Paris time"),
        ("30 6,18 * * *", "UTC", "every day at 06:30 and 18:30, UTC"),
        ("0 9 * * mon-fri", "America/New_York", "Monday to Friday at 09:00, New York time"),
        ("*/15 * * * *", "UTC", "every 15 minutes, UTC"),
        ("*/10 9-17 * * tue,thu", "UTC",
         "every 10 minutes from 09:00 to 17:59, every Tuesday and Thursday, UTC"),
        ("5 * * * *", "UTC", "every hour at 5 past, UTC"),
        ("0 4 1 * *", "UTC", "on day 1 of every month at 04:00, UTC"),
        ("0 4 1 1,7 *", "UTC", "on day 1 of the month in January and July at 04:00, UTC"),
        ("0 4 1 * mon", "UTC", "cron '0 4 1 * mon' on the clock of UTC"),
        ("7-9,40 3 * * *", "UTC", "every day at 03:07, 03:08, 03:09 and 03:40, UTC"),
    ],
)  # fmt: skip
def test_a_cron_expression_is_a_sentence_where_it_can_be_one(expression, zone, words):
    assert in_words(f"cron {expression!r} on the clock of {zone}") == words


@pytest.mark.parametrize("words", ["every 10m", "once", "cron 'odd' on the clock of Nowhere", ""])
def test_other_times_stay_as_they_are(words):
    assert in_words(words) == words


def test_policies_stay_behind_the_times():
    words = "cron '0 6 * * *' on the clock of UTC, missed: all"

    assert in_words(words) == "every day at 06:00, UTC, missed: all"
