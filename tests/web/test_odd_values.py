"""Whatever stands in Redis, every page answers, marks what is broken, and shows all the rest.

Each field and key that is read is given the same odd values, a row each, beside a good row.
"""

import base64
import json
import os
import pickle
import re
import tempfile
import zlib
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rq import Queue

from jiffy import every, history, keys, tracebacks
from jiffy.cli import load
from jiffy.control import pauses, read
from jobs import numbers
from tests.support.worker_support import claim
from tests.web.conftest import TOKEN, USER, Trap, addresses, log_in

HALF = r"\ud800"  # half a character: JSON may hold it, but it cannot be encoded
# What is unpickled writes this file.
EXECUTED = Path(tempfile.gettempdir()) / f"jiffy-executed-{os.getpid()}"
PICKLED = pickle.dumps(("jobs.numbers.add", None, (Trap(EXECUTED),), {}))
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
    b'{"a":' * 15_000,
    b'["' + b"x" * 9_000 + b'", [1], null]',
    rf'["{HALF}", "{HALF}", ["{HALF}"], {{"{HALF}": "{HALF}"}}]'.encode(),
    rf'{{"{HALF}": "{HALF}", "fraction": 0.5, "note": "{HALF}", "who": "{HALF}", "why": "{HALF}", '
    rf'"since": 1, "until": null, "name": "{HALF}", "words": "{HALF}", "a": "{HALF}"}}'.encode(),
    b'{"fraction": 1e999, "note": 5, "who": [], "since": 1e300, "until": 1e300, "name": {}}',
    b"t|1e30|0|||",
    b"t|1|" + b"9" * 5_000 + b"|||",
    b"\x80\x04broken pickle",
    PICKLED,
    zlib.compress(PICKLED),
    base64.b64encode(PICKLED),
    b"f(" + b"pin=1, password='a'x, " * 5_000,
    zlib.compress(b"0" * 50_000_000),
    b"x" * 2_000_000,
]
ODD = [f"odd{number}" for number in range(len(VALUES))]

ERROR = "ValueError: no such cup"
GROUP = tracebacks.Group.of(ERROR).key


@pytest.fixture
def rows(redis, plant, plant_worker, declare, leader):
    """A job, a worker and an entry for each of the odd values; and good ones."""
    declare(*(every("10m", numbers.add, args=[2, 3], name=name) for name in [*ODD, "good"]))
    for name, state in zip(ODD, cycle(read.STATES), strict=False):
        plant(name, status=state, result=8)
        plant_worker(name)
    redis.zadd(keys.REGISTRIES["finished"] + "default", dict.fromkeys(ODD, 9e9))
    plant("good", result=8)
    plant("good-next", status="queued")
    plant("good-failed", status="failed", error=ERROR)
    plant_worker("good")


@pytest.fixture
def look(app, client, rows):
    """Open every page, and those of some jobs and entries.  Returns the answers.

    Fails if one is not a 200, and unless the good rows are shown.
    """

    def look(names=("odd0", "good"), *, is_good_shown=True):
        paths = [
            path.replace("JOB", name).replace("GROUP", GROUP)
            for path in addresses(app)
            for name in (names if "JOB" in path else [""])
        ]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answers = {path: client.get(path, headers=headers) for path in paths}
        failed = {path: one.status_code for path, one in answers.items() if one.status_code != 200}
        failed = {  # an odd function is none that could be enqueued
            path: status
            for path, status in failed.items()
            if not (path.startswith("/new?job=odd") and status == 404)
        }
        if not is_good_shown and failed == {"/queues/default": 404}:  # nor are queues known
            failed = {}
        assert failed == {}
        for answer in answers.values():
            if answer.is_json:
                json.loads(answer.text, parse_constant=pytest.fail)
        for name, *words in (["scheduler", "list"], ["scheduler", "history", "good"], ["paused"]):
            ended = CliRunner().invoke(load(name), words)
            assert (ended.exit_code, ended.exception) == (0, None)
        assert not EXECUTED.exists()
        if is_good_shown:
            assert_good_rows(answers)
        return answers

    return look


def assert_good_rows(answers):
    jobs = answers["/rq/0/data/jobs/default/finished/100/asc/1.json"].json["jobs"]
    workers = answers["/rq/0/data/workers.json"].json["workers"]
    schedule = answers["/api/schedule"].json["entries"]

    shown = {
        "/": 'id="job-good"', "/jobs": 'id="job-good"', "/workers": 'id="worker-good"',
        "/failures": f'id="group-{GROUP}"', f"/failures/{GROUP}": 'id="job-good-failed"',
        "/queues": 'id="queue-default"', "/queues/default": 'id="job-good-next"',
        "/schedule": 'id="entry-good"', "/api/queues": '"default"', "/api/functions": "numbers.add",
    }  # fmt: skip
    assert {path for path, row in shown.items() if row not in answers[path].text} == set()
    assert 'id="worker-good"' in answers["/queues/default"].text
    assert "good" in {job["id"] for job in jobs}
    assert "good" in {worker["name"] for worker in workers}
    assert "good" in {entry["name"] for entry in schedule}
    assert answers["/api/jobs/good"].json["result"] == 8


MARK = ">unreadable</span>"
# Those that a row is marked for; others, such as a status, may be any string.
CHECKED = {
    "data", "created_at", "enqueued_at", "started_at", "ended_at", "dependency_ids",
    "retry_intervals", "timeout", "successful_job_count", "failed_job_count", "last_heartbeat",
    "birth", "total_working_time",
}  # fmt: skip


@contextmanager
def recorded(redis):
    """The commands that Redis gets meanwhile, those of scripts too."""
    found = []
    with redis.monitor() as monitor:
        yield found
        redis.echo("the end")
        for one in monitor.listen():
            if one["command"].endswith("the end"):
                break
            found.append(one["command"].split(" "))


OF_ALL = (keys.QUEUES, keys.WORKERS, keys.ENTRIES, keys.DECLARED)
# Commands without a key of what is shown: scripts, whose own commands follow; what ours write.
NO_KEY = {"EVAL", "EVALSHA", "SCRIPT", "INFO", "CONFIG", "TIME", "ECHO", "CLIENT", "SLOWLOG",
          "MULTI", "EXEC", "PUBSUB", "PING", "SET", "HSET", "XADD", "DBSIZE", "HELLO", "ACL",
          "COMMAND", "LATENCY", "SCAN", "SELECT", "HSETNX", "EXPIRE", "PUBLISH"}  # fmt: skip


@pytest.fixture
def read_by_us(look, redis):
    """(key, field) of all that is read; "" where it is no field, "*" where all fields are.

    Of what each row has, the key has ODD in it, and of several of a time the last one is there.
    """
    with recorded(redis) as commands:
        look(["odd0", "odd1", "odd4", "good"])
    found = {}
    for name, *words in commands:
        name = name.upper()
        if name in NO_KEY or not words:
            continue
        key = words[1 if name == "MEMORY" else 0]
        fields = words[1:] if name in ("HGET", "HMGET", "HSTRLEN", "HEXISTS") else [""]
        for field in ["*"] if name == "HGETALL" else fields:
            key_of_rows = re.sub(r"odd\d+", "ODD", key)
            found[re.sub(r"\d{4,}", "N", key_of_rows), field] = key_of_rows
    return sorted(
        {
            (key, field)
            for (_, field), key in found.items()
            if "good" not in key and key != keys.SESSIONS
        }
    )


def feed(redis, key, field):
    """Give all rows, or what all share, odd values of a field."""
    for number, odd in enumerate(VALUES if "ODD" in key else VALUES[:1]):
        its_key = key.replace("ODD", ODD[number])
        redis.hset(
            its_key,
            mapping=dict(zip(VALUES, VALUES, strict=True)) if field == "*" else {field: odd},
        )


def test_all_fields_of_all_rows_at_once(look, read_by_us, redis):
    """The first field has all odd values, a row each; the next one too, shifted by a row."""
    for shift, (key, field) in enumerate(read_by_us):
        if "ODD" in key and field not in ("", "*"):
            for number, name in enumerate(ODD):
                odd = VALUES[(number + shift) % len(VALUES)]
                redis.hset(key.replace("ODD", name), field, odd)
    answers = look([*ODD, "good"])

    assert {field for _, field in read_by_us} >= {*read.JOB_FIELDS, *read.WORKER_FIELDS[2:]}
    for path in ("/jobs", "/workers", "/queues/default"):
        assert MARK in answers[path].text


PARTS_OF_ALL = 8  # one test would take minutes


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS_OF_ALL))
def test_each_field_alone(look, read_by_us, redis, part):
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    for key, field in read_by_us[part::PARTS_OF_ALL]:
        if field:
            feed(redis, key, field)
            answers = look([*ODD, "good"])
            if field in CHECKED and "job:ODD" in key:
                assert MARK in answers["/jobs"].text, (key, field)
            if field == "meta" and "job:ODD" in key:  # lists do not read it
                assert any("meta is" in answers[f"/jobs/{name}"].text for name in ODD)
            restore(redis, before)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS_OF_ALL))
def test_each_key_of_another_type(look, read_by_us, redis, part):
    every_key = sorted({key for key, _ in read_by_us if "default" not in key})
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    for key in every_key[part::PARTS_OF_ALL]:
        for kind in KINDS:
            its_key = key.replace("ODD", "odd0")
            redis.delete(its_key)
            KINDS[kind](redis, its_key)
            look(["odd0", "odd5", "good"], is_good_shown=key not in OF_ALL)
            restore(redis, before)


def restore(redis, before):
    session = redis.dump(keys.SESSIONS)
    redis.flushdb()
    for key, raw in (before | {keys.SESSIONS.encode(): session}).items():
        redis.restore(key, 0, raw)


@pytest.mark.parametrize("field", ["type", "return_value", "exc_string"])
def test_a_field_of_a_result(look, redis, field):
    for job_id, odd in zip(ODD, VALUES, strict=True):
        redis.xadd(keys.results(job_id), {"type": 1, "return_value": "OA==", field: odd})
    look([*ODD, "good"])


def test_a_line_of_an_entrys_history(look, redis):
    for name, odd in zip(ODD, VALUES, strict=True):
        redis.lpush(keys.ticks(f"entry-{name}"), odd, *VALUES)
    look([*ODD, "good"])


def test_counts_of_the_schedules_runs(look, redis):
    for first in range(0, len(VALUES), 3):
        outcomes = ("enqueued", "skipped", "missed")
        odd = VALUES[first : first + 3]
        redis.hset(keys.TICK_COUNTS, mapping=dict(zip(outcomes, odd, strict=True)))
        look()


def test_pauses(look, redis):
    """Those that workers obey are shown; all others they delete."""
    pauses.pause(queue="low", why="the good one")
    sound = {"who": "me", "why": "tea", "since": 1, "until": None}
    odd = [{**sound, field: one} for field in sound for one in (None, [], "x", -1e300, 1e300, True)]
    rows = [*VALUES, *(json.dumps(one).encode() for one in [{}, *odd])]
    for number, raw in enumerate(rows):
        redis.hset(keys.PAUSED, mapping={f"func:odd.n{number}": raw, VALUES[number % 2]: raw})
    before = look()
    claim(redis)
    after = look()

    for answers in (before, after):
        assert "the good one" in answers["/"].text
        assert "the good one" in {one["why"] for one in answers["/api/pauses"].json}
    obeyed = {raw.partition(b":")[2].decode() for raw in redis.hkeys(keys.PAUSED)}
    assert obeyed == {one["name"] for one in after["/api/pauses"].json}


def test_counts_of_the_past(look, redis):
    """Of a minute that is over, of chunks that were packed, and once it is packed into these."""
    past_s = redis.time()[0] - 60
    minute, chunk = keys.history(f"now:{past_s // 60}"), keys.history(f"60:{past_s // 3600}")
    redis.hset(minute, mapping=dict(zip(VALUES, VALUES, strict=True)))
    for number, odd in enumerate([*VALUES[:-1], b"9" * 30, b"1"]):  # over 10 MB nothing is read
        for place in ("3", "99999999999", "\N{SUPERSCRIPT TWO}"):
            redis.hset(minute, f"failed {place} {place} f{number}\ndefault", odd)
    for kind, odd in zip("tqf", (zlib.compress(b"0" * 5_000_000), b"odd", VALUES[0]), strict=True):
        redis.set(f"{chunk}:{kind}", odd)
    redis.zadd(keys.history("names"), dict.fromkeys(VALUES, past_s))
    redis.hincrby(minute, "done 3 4 jobs.good\ndefault", 5)
    redis.hincrby(minute, "ran_ms - - jobs.good\ndefault", 5_000)
    before = look()
    history.pack(redis)

    assert 'id="costly-jobs.good"' in before["/"].text
    assert not redis.exists(minute)
    assert 'id="costly-jobs.good"' in look()["/"].text


KINDS = {
    "string": lambda redis, key: redis.set(key, "a string"),
    "list": lambda redis, key: redis.rpush(key, *VALUES),
    "set": lambda redis, key: redis.sadd(key, *VALUES),
    "zset": lambda redis, key: redis.zadd(key, dict.fromkeys(VALUES, 5)),
    "hash": lambda redis, key: redis.hset(key, "status", "queued"),
}
MEMBERS = [
    ("list", keys.queue("default")),
    ("set", keys.QUEUES),
    ("set", keys.WORKERS),
    ("set", keys.DECLARED),
    ("set", keys.executions("odd1")),
    *(("zset", prefix + "default") for prefix in keys.REGISTRIES.values()),
    ("zset", keys.ENTRIES),
    ("zset", keys.pending("odd5")),
]


@pytest.mark.parametrize(("kind", "key"), MEMBERS)
def test_members_of_a_key(look, redis, kind, key):
    KINDS[kind](redis, key)
    look(["odd5", "good"])


@pytest.mark.parametrize("score", ["inf", "-inf", 1e300, 0.5])
@pytest.mark.parametrize("key", [keys.REGISTRIES["scheduled"] + "default", keys.ENTRIES])
def test_scores(look, redis, key, score):
    redis.zadd(key, {"odd4": score, "entry-odd0": score})
    look(["odd4", "good"])


@pytest.mark.parametrize(
    "dumps", [partial(pickle.dumps, protocol=0), lambda call: repr(call).encode()]
)
def test_nothing_is_shown_of_a_call_in_another_format(api, client, redis, dumps):
    serializer = SimpleNamespace(dumps=dumps, loads=pickle.loads)
    queue = Queue("theirs", connection=redis, serializer=serializer)
    queue.enqueue("a.b", kwargs={"pin": "hunter2"}, meta={"pin": "hunter2"}, job_id="theirs")
    answer = api("GET", "/api/jobs/theirs")

    assert answer.json["problems"] == ["data is not JSON", "meta is not JSON"]
    assert "hunter2" not in answer.text + client.get("/jobs/theirs").text


def test_a_job_whose_key_holds_another_type_is_a_marked_row(look, redis):
    redis.delete(keys.job("odd0"))
    redis.set(keys.job("odd0"), "a string")
    answers = look()

    assert "its key does not hold a hash" in answers["/jobs/odd0"].text
    assert MARK in answers["/jobs"].text


@pytest.mark.parametrize("key", [keys.QUEUES, keys.WORKERS, keys.ENTRIES, keys.PAUSED])
def test_a_key_of_another_type_is_reported_on_every_page(look, redis, key):
    redis.delete(key)
    redis.set(key, "a string")
    answers = look(is_good_shown=False)

    for path in ("/", "/jobs", "/workers", "/queues", "/schedule", "/system"):
        assert f"{key} does not hold a" in answers[path].text


def test_a_queue_with_a_key_of_another_type_is_marked(look, client, redis):
    KINDS["string"](redis, keys.queue("odd"))
    redis.sadd(keys.QUEUES, keys.queue("odd"))
    redis.rename(keys.workers_of("default"), keys.workers_of("odd"))
    KINDS["string"](redis, keys.workers_of("default"))
    answers = look(is_good_shown=False)

    assert MARK in answers["/queues"].text
    assert MARK in client.get("/queues/odd").text
    assert MARK in answers["/queues/default"].text
    assert "No worker listens" not in answers["/queues/default"].text
    assert 'id="job-good-next"' in answers["/queues/default"].text


def test_a_history_of_another_type_is_none(look, redis):
    now_s = redis.time()[0]
    redis.set(keys.history(f"now:{now_s // 60}"), "a string")
    for name in (f"60:{now_s // 3600}:f", f"60:{now_s // 3600 - 1}:t"):
        redis.hset(keys.history(name), "a", "hash")
    redis.hincrby(keys.history(f"now:{now_s // 60 - 1}"), "done 3 4 jobs.good\ndefault", 5)

    assert 'id="costly-jobs.good"' in look()["/"].text


def test_sessions_of_another_type_log_everyone_out_and_say_what_to_delete(client, redis):
    redis.delete(keys.SESSIONS)
    redis.set(keys.SESSIONS, "a string")

    assert client.get("/jobs").status_code == 302
    assert client.get("/login").status_code == 200
    refused = log_in(client)
    assert (refused.status_code, keys.SESSIONS in refused.text) == (503, True)
    assert "Delete or rename the key." in refused.text


@pytest.mark.parametrize("kind", ["list", "string"])
def test_odd_counts_of_logins_let_people_in(stranger, redis, kind):
    log_in(stranger, password="wrong")
    counts = redis.keys(keys.attempts("*"))
    for key in counts:
        redis.delete(key)
        KINDS[kind](redis, key)

    assert counts
    assert log_in(stranger).headers["Location"] == "/"


@pytest.mark.parametrize("count", ["nan", "1e300", "0.5", "-inf", "9" * 20])
def test_a_count_of_logins_that_is_no_whole_number_is_0(stranger, redis, count):
    log_in(stranger, password="wrong")
    for key in (counts := redis.keys(keys.attempts("*"))):
        redis.set(key, count, keepttl=True)

    assert counts
    assert log_in(stranger).headers["Location"] == "/"


def test_a_user_whose_sessions_have_an_empty_mark_can_log_in(stranger, redis):
    redis.hset(keys.SESSIONS, USER, "")
    log_in(stranger)

    assert stranger.get("/").status_code == 200


def test_a_count_of_logins_that_lasts_for_years_locks_no_one_out(stranger, redis):
    log_in(stranger, password="wrong")
    for key in (counts := redis.keys(keys.attempts("*"))):
        redis.expire(key, 10**9)

    assert counts
    assert log_in(stranger).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["enqueue", "jobs.numbers.add", 2, 3], keys.queue("default")),
        (["pause", "queue", "low", "--why", "tea"], keys.PAUSED),
        (["resume", "queue", "low"], keys.audit("changes")),
        (["bulk", "retry", "state:failed", "--yes"], keys.audit("changes")),
        (["scheduler", "skip", "JOB"], keys.entry_state("entry-JOB")),
        (["scheduler", "run", "JOB"], keys.queue("default")),
    ],
)
def test_a_command_that_cannot_write_to_a_key_says_so_in_one_line(
    command_line, world, redis, words, key
):
    redis.delete(key)
    redis.set(key, "a string")
    code, _, errors = command_line(*words)

    assert (code, errors.count("\n"), errors[:15]) == (1, 1, "Redis refuses: ")


def test_commands_write_no_control_characters(redis, declare):
    evil = "a\x1b[2J\x9b\u202e\r\nb is paused."
    reason = json.dumps({"who": evil, "why": evil, "since": 1, "until": None})
    declare(every("10m", numbers.add, args=[2, 3], name="JOB"))
    redis.hset(keys.PAUSED, f"queue:{evil}", reason)
    redis.hset(keys.entry_state("entry-JOB"), "paused", reason)
    for name, *words in (["paused"], ["scheduler", "list"]):
        lines = CliRunner().invoke(load(name), words).output.splitlines()

        assert [line for line in lines if not line.isprintable()] == []
        assert len(lines) == (1 if name == "paused" else 3)
        assert any(r"a\x1b[2J\x9b\u202e b is paused." in line for line in lines)
