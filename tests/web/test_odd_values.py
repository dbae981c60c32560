"""Whatever stands in Redis, every page answers, and shows all that is sound.

Each field and key that we read is given the same odd values, one row each, beside a good row.
"""

import json
import zlib

import pytest
from click.testing import CliRunner

from jiffy import keys
from jiffy.cli import load
from tests.web.conftest import TOKEN

HALF = r"\ud800"  # half a character: JSON may hold it, but it cannot be encoded
VALUES = [
    b"",
    b"\xff\xfe\x00",
    b"\xed\xa0\x80",
    b"<b>\r\n\x1b[31m",
    b"9" * 10_000,
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[" * 15_000,
    b"{" * 15_000,
    b'{"a":' * 15_000,
    b'["' + b"x" * 9_000 + b'", [1], null]',
    rf'["{HALF}", "{HALF}", ["{HALF}"], {{"{HALF}": "{HALF}"}}]'.encode(),
    rf'{{"{HALF}": "{HALF}", "fraction": 0.5, "note": "{HALF}", "who": "{HALF}", "why": "{HALF}", '
    rf'"since": 1, "until": null, "name": "{HALF}", "words": "{HALF}", "a": "{HALF}"}}'.encode(),
    b'{"fraction": 1e999, "note": 5, "who": [], "since": 1e300, "until": 1e300, "name": {}}',
    b"x|y",
    b"t|1e30|0|||",
    b"t|1|" + b"9" * 5_000 + b"|||",
    b"\x80\x04broken pickle",
    zlib.compress(b"0" * 50_000_000),
    b"x" * 2_000_000,
]  # fmt: skip

JOB = [
    "status", "created_at", "enqueued_at", "started_at", "ended_at", "description", "origin",
    "data", "meta", "worker_name", "timeout", "result_ttl", "ttl", "failure_ttl", "dependency_ids",
    "retries_left", "retry_intervals", "number_of_retries", "repeats_left", "repeat_intervals",
    "last_heartbeat", "exc_info", "success_callback_name", "group_id", "enqueue_at_front",
    "rate_limit_key", "rate_limit_concurrency", "allow_dependency_failures",
    keys.PROGRESS_FIELD, keys.MASKED_FIELD, keys.REASON_FIELD, keys.TICK_OF_FIELD,
]  # fmt: skip
WORKER = [
    "state", "current_job", "queues", "hostname", "pid", "birth", "last_heartbeat", "version",
    "python_version", "successful_job_count", "failed_job_count", "total_working_time",
    "ip_address", "death",
]  # fmt: skip
STATES = ["started", "failed", "scheduled", "deferred", "queued", "finished"]

LISTS = [
    "/", "/schedule", "/healthz", "/metrics", "/api/queues", "/api/schedule", "/rq/",
    "/rq/0/view/workers", "/rq/0/data/queues.json", "/rq/0/data/workers.json",
    "/rq/0/view/jobs/default/finished/100/asc/1", "/rq/0/data/jobs/default/finished/100/asc/1.json",
    "/rq/0/data/jobs/default/queued/100/asc/1.json",
]  # fmt: skip
OF_JOB = ["/jobs/{}", "/api/jobs/{}", "/rq/0/view/job/{}", "/rq/0/data/job/{}.json"]
OF_ENTRY = ["/schedule/{}", "/api/schedule/{}"]


@pytest.fixture
def rows(redis, plant, plant_worker, declare, leader):
    """The ids of as many jobs, workers and entries as there are odd values; and a good one."""
    from jiffy import every
    from jobs import numbers

    ids = [f"odd{number}" for number in range(len(VALUES))]
    declare(*(every("10m", numbers.add, args=[2, 3], name=name) for name in [*ids, "good"]))
    for number, name in enumerate([*ids, "good"]):
        plant(name, status=STATES[number % len(STATES)] if name in ids else "finished", result=8)
        redis.zadd(keys.REGISTRIES["finished"] + "default", {name: 9e9})
        plant_worker(name)
    return ids


@pytest.fixture
def opened(client, redis, rows):
    """Open every list, and the pages of one job and one entry each; fails where one does."""

    def look(job_ids=("odd0", "good"), entries=("odd0", "good")):
        paths = [*LISTS, *(path.format(job_id) for job_id in job_ids for path in OF_JOB)]
        paths += [path.format(name) for name in entries for path in OF_ENTRY]
        answers = {path: client.get(path, headers=BEARER) for path in paths}
        failed = {path: one.status_code for path, one in answers.items() if one.status_code != 200}
        assert failed == {}
        for answer in answers.values():
            if answer.is_json:
                json.loads(answer.text, parse_constant=pytest.fail)
        for command in (["list"], ["history", "good"]):
            assert CliRunner().invoke(load("scheduler"), command).exit_code == 0
        return answers

    return look


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def is_all_shown(answers):
    """Whether the good job, worker and entry stand beside the odd ones."""
    listed = answers["/rq/0/data/jobs/default/finished/100/asc/1.json"].json["jobs"]
    workers = answers["/rq/0/data/workers.json"].json["workers"]
    schedule = answers["/api/schedule"].json["entries"]
    return (
        "/jobs/good" in answers["/"].text
        and 'id="worker-good"' in answers["/"].text
        and "good" in {job["id"] for job in listed}
        and "good" in {worker["name"] for worker in workers}
        and "good" in {entry["name"] for entry in schedule}
        and answers["/api/jobs/good"].json["result"] == 8
    )


@pytest.mark.parametrize("field", JOB)
def test_an_odd_field_of_a_job(rows, opened, redis, field):
    for job_id, odd in zip(rows, VALUES, strict=True):
        redis.hset(keys.job(job_id), field, odd)

    assert is_all_shown(opened([*rows, "good"]))


@pytest.mark.parametrize("field", ["type", "return_value", "exc_string"])
def test_an_odd_field_of_a_result(rows, opened, redis, field):
    for job_id, odd in zip(rows, VALUES, strict=True):
        redis.xadd(keys.results(job_id), {"type": 1, "return_value": "OA==", field: odd})

    assert is_all_shown(opened([*rows, "good"]))


@pytest.mark.parametrize("field", WORKER)
def test_an_odd_field_of_a_worker(rows, opened, redis, field):
    for name, odd in zip(rows, VALUES, strict=True):
        redis.hset(keys.worker(name), field, odd)

    assert is_all_shown(opened())


@pytest.mark.parametrize("field", [keys.POLICY_FIELD, "description", "origin", "meta"])
def test_an_odd_field_of_an_entry(rows, opened, redis, field):
    for name, odd in zip(rows, VALUES, strict=True):
        redis.hset(keys.job(f"entry-{name}"), field, odd)

    assert is_all_shown(opened(entries=[*rows, "good"]))


@pytest.mark.parametrize("field", ["paused", "skip"])
def test_an_odd_pause_or_skip_of_an_entry(rows, opened, redis, field):
    for name, odd in zip(rows, VALUES, strict=True):
        redis.hset(keys.entry_state(f"entry-{name}"), field, odd)

    assert is_all_shown(opened(entries=[*rows, "good"]))


def test_an_odd_line_of_an_entrys_history(rows, opened, redis):
    for name, odd in zip(rows, VALUES, strict=True):
        redis.lpush(keys.ticks(f"entry-{name}"), odd, *VALUES)

    assert is_all_shown(opened(entries=[*rows, "good"]))


def test_odd_counts_of_runs(opened, redis):
    for odd in VALUES:
        redis.hset(keys.TICK_COUNTS, "enqueued", odd)

        assert is_all_shown(opened())


MEMBERS = {
    "list": [keys.queue("default")],
    "set": [keys.QUEUES, keys.WORKERS, keys.DECLARED, f"{keys.executions('odd1')}"],
    "zset": [
        *(prefix + "default" for prefix in keys.REGISTRIES.values()),
        keys.ENTRIES,
        keys.pending("odd3"),
    ],
}
KINDS = {
    "string": lambda redis, key: redis.set(key, "a string"),
    "list": lambda redis, key: redis.rpush(key, *VALUES),
    "set": lambda redis, key: redis.sadd(key, *VALUES),
    "zset": lambda redis, key: redis.zadd(key, dict.fromkeys(VALUES, 5)),
    "hash": lambda redis, key: redis.hset(key, "status", "queued"),
    "stream": lambda redis, key: redis.xadd(key, {"a": "b"}),
}


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind, names in MEMBERS.items() for key in names],
)
def test_odd_members(opened, redis, kind, key):
    KINDS[kind](redis, key)

    assert is_all_shown(opened(["odd3", "good"]))


@pytest.mark.parametrize("score", ["inf", "-inf", 1e300, -1e300, 0.5])
@pytest.mark.parametrize("key", [keys.REGISTRIES["scheduled"] + "default", keys.ENTRIES])
def test_odd_scores(opened, redis, key, score):
    redis.zadd(key, {"odd2": score, "entry-odd0": score})

    assert is_all_shown(opened(["odd2", "good"]))


KEYS = [
    keys.QUEUES, keys.WORKERS, keys.SUSPENDED, keys.queue("other"),
    *(prefix + "other" for prefix in keys.REGISTRIES.values()),
    keys.ENTRIES, keys.DECLARED, keys.LEADER, keys.TICK_COUNTS, keys.job("odd0"), keys.job("odd3"),
    keys.results("odd0"), keys.pending("odd3"), keys.worker("odd0"), keys.executions("odd0"),
    keys.job("entry-odd0"), keys.entry_state("entry-odd0"), keys.ticks("entry-odd0"),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_another_type(opened, redis, key):
    redis.sadd(keys.QUEUES, keys.queue("other"))
    before = redis.dump(key)
    for make in KINDS.values():
        redis.delete(key)
        make(redis, key)

        opened(["odd0", "odd3", "good"])
    redis.delete(key)
    if before:
        redis.restore(key, 0, before)

    assert is_all_shown(opened())
