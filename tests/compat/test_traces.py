"""Given the same job, our worker leaves in Redis what RQ's leaves, but for a written list."""

import re

import pytest

from bench.compat import tables
from jiffy import keys
from tests.compat import scenarios, traces
from tests.compat.conftest import WORKERS

SLOW = {"over_its_time_limit", "held_behind_a_job_over_its_time_limit"}
RQS_OWN = ("SimpleWorker", "Worker")
PLAYS = [
    pytest.param(name, kind, id=f"{name}, {kind}", marks=[pytest.mark.slow] if name in SLOW else [])
    for name, scenario in scenarios.ALL.items()
    for kind in WORKERS
    if kind == "in a child" or not hasattr(scenario, "needs_a_child")
]


@pytest.mark.parametrize(("name", "kind"), PLAYS)
def test_our_worker_leaves_the_traces_of_rqs_worker(on_stage, name, kind):
    theirs, ours = (on_stage(scenarios.ALL[name], worker) for worker in WORKERS[kind])

    assert undocumented(name, traces.differences(theirs, ours)) == {}


@pytest.mark.parametrize("name", ["finished", "failed", "a_group", "retried_later"])
def test_the_comparison_finds_nothing_between_rqs_own_workers(on_stage, name):
    theirs, others = (on_stage(scenarios.ALL[name], f"rq.{kind}") for kind in RQS_OWN)

    assert traces.differences(theirs, others) == {}


def test_a_difference_that_is_planted_is_found(on_stage, redis):
    theirs = on_stage(scenarios.finished, "rq.SimpleWorker")
    on_stage(scenarios.finished, "rq.SimpleWorker")
    redis.hset(keys.job("one"), "status", "failed")
    redis.persist(keys.results("one"))
    redis.zadd(f"{keys.RQ}finished:default", {"one": 1_999_999_999})
    redis.set(f"{keys.RQ}left-behind", "1")
    found = traces.differences(theirs, traces.take(redis))

    assert list(found) == [
        "rq:finished:default{one}",
        "rq:job:one.status",
        "rq:left-behind",
        "rq:left-behind ttl",
        "rq:left-behind value",
        "rq:results:one ttl",
    ]


def test_a_difference_that_is_allowed_in_one_scenario_is_found_in_the_others():
    found = {"rq:job:one.status": ("finished", "failed")}

    assert undocumented("returned_what_cannot_be_sent", found) == {}
    assert undocumented("finished", found) == found


def undocumented(scenario, differences):
    """Those of `differences` that docs/compatibility.md does not name for this scenario."""
    allowed = [_pattern(row["where"]) for row in tables.rows("where")]
    return {
        path: values
        for path, values in differences.items()
        if not any(pattern.fullmatch(f"{scenario}: {path}") for pattern in allowed)
    }


def _pattern(where):
    """`path` allows a difference everywhere, `scenario: path` in one scenario; `*` is anything."""
    anywhere = where if ": " in where else f"*: {where}"
    return re.compile(re.escape(anywhere).replace(r"\*", ".*"), re.DOTALL)
