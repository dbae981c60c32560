"""The tables of the benchmark: a contestant that failed is in them, with the reason."""

from bench import tables
from bench.measures import MEASURES

RUN = {"jobs_per_s": 1000.0, "commands_per_job": 4.0, "round_trips_per_job": 2.0, "not_done": 0}


def rows(*runs):
    return tables.rows(MEASURES["drain2"], {"peer": list(runs)})


def test_a_contestant_that_always_failed_is_in_the_table_with_the_reason():
    assert rows("no such command", "no such command")[1] == ["peer", "no such command"]


def test_a_contestant_that_failed_once_has_figures_and_the_reason():
    name, speed, *_ = rows(RUN, "it crashed")[1]

    assert (name, speed) == ("peer (fell in 1 of 2 runs: it crashed)", "1,000")


def test_a_table_stays_straight_with_a_reason_in_it():
    text = tables.as_text([["", "jobs/s", "MB"], ["ab", "1,000", "7"], ["longer", "it crashed"]])

    assert text == "        jobs/s  MB\nab       1,000   7\nlonger  it crashed"


def test_the_overview_has_a_row_for_a_contestant_that_failed():
    table = tables.overview({"drain2": {"a": [RUN], "b": ["it crashed"]}})

    assert table == [["", "2 workers, jobs/s"], ["a", "1,000"], ["b", "-"]]
