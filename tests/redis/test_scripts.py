"""What must hold of every Lua script, whatever it does."""

import json
import re
from pathlib import Path

import pytest

import jiffy
from jiffy import actions, clock, keys
from jiffy.control import read
from jiffy.errors import DuplicateJob
from jiffy.redis_io import Link, run_script
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import WIP, claim, enqueue, recovery

FOLDER = Path(__file__).parents[2] / "jiffy/scripts"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}
INCLUDED = {name for name in TEXTS if any(f"--include {name}\n" in text for text in TEXTS.values())}
QUEUES = [keys.queue("default")]


def act(redis):
    for action in (actions.cancel, actions.retry, actions.stop):
        with pytest.raises(Exception, match="default-0"):  # it runs; nothing listens
            action("default-0")


def call(script, names, *args):
    return lambda redis: run_script(redis, script, names, args)


def enqueue_with_its_id(redis):
    with pytest.raises(DuplicateJob):
        jiffy.enqueue.options(job_id="default-0")(worker_jobs.nothing)


def run_its_entry(redis):
    run = {"id": "entry", "fields": {"origin": "default"}, "asked": 1}
    run |= {"runs": [[1, "t1|", "default-0"]], "overlap": "replace"}
    run_script(redis, "entry_run", [keys.IN_FORCE], ["", json.dumps(run)])


def depend_on_it(redis):
    jiffy.enqueue.options(depends_on="default-0")(worker_jobs.nothing)


# A script, and what a job that runs might suffer from it.
CALLS = {
    "act": act,
    "census": read.census,
    "due": call("due", QUEUES, 1000, 180),
    "enqueue": enqueue_with_its_id,
    "enqueue_waiting": depend_on_it,
    "entry_enqueue": call("entry_enqueue", [keys.ENTRIES], "default-0", 1, "", "", 180),
    "entry_run": run_its_entry,
    "family": lambda redis: read.family(redis, "default-0"),
    "heartbeat": call("heartbeat", [keys.LEASES], 10, 480, "worker-1", 0, ""),
    "join": lambda redis: recovery(redis).end_parts(
        *Link(redis).exchange(recovery(redis).look_at_workflows())
    ),
    "login": call("login", [keys.attempts("both")], 1000, 100, 5, 1000),
    "maintain": lambda redis: recovery(redis).maintain(QUEUES, 60),
    "peek": call("peek", [keys.job("default-0")], 100, "status"),
    "resign": call("resign", [keys.LEADER, keys.LEADER_LEFT], "another", 1000),
}


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - INCLUDED - {"claim", "finish", "recover"}))
def test_only_claim_finish_and_recover_take_a_job_out_of_the_started_registry(redis, name):
    enqueue(redis)
    [claimed] = claim(redis)
    member = f"default-0:{claimed.execution}"
    redis.zadd(keys.EXPIRING, {"default-0": 1})
    for registry in ("scheduled", "deferred", "finished", "failed"):
        redis.zadd(keys.REGISTRIES[registry] + "default", {"default-0": 1})
    redis.zadd(WIP, {member: clock.wall() - 3600})
    redis.config_resetstat()
    CALLS[name](redis)

    assert {"cmdstat_eval", "cmdstat_evalsha"} & redis.info("commandstats").keys()
    assert redis.zscore(WIP, member) is not None
    assert redis.hexists(keys.held("worker-1"), member)


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_opens_with_its_purpose_keys_arguments_and_answer(name):
    opening = re.match(r"(--.*\n)+", TEXTS[name])[0]

    for part in ["KEYS"] if name in INCLUDED else ["KEYS: ", "ARGV: ", "Returns"]:
        assert part in opening, part


# Bounded work, whatever has piled up: counted in keys and commands, not in seconds

FILL = """
local count, key, batch = tonumber(ARGV[1]), KEYS[1], {}
for i = 1, count do
  if ARGV[2] == 'ZADD' then batch[#batch + 1] = 1 end
  batch[#batch + 1] = 'gone-' .. (ARGV[3] + i)
  if #batch >= 4000 or i == count then
    redis.call(ARGV[2], key, unpack(batch))
    batch = {}
  end
end
"""


def fill(redis, key, how, count):
    for start in range(0, count, 100_000):
        redis.eval(FILL, 1, key, min(100_000, count - start), how, start)


def commands(redis):
    """How many commands Redis has run since the last reset, scripts' own included."""
    return sum(stats["calls"] for stats in redis.info("commandstats").values())


@pytest.mark.slow
def test_a_million_ids_without_a_job_are_passed_over_a_thousand_a_call(redis):
    fill(redis, keys.queue("default"), "RPUSH", 1_000_000)
    enqueue(redis)
    redis.config_resetstat()
    jobs = claim(redis)

    assert (jobs, redis.llen(keys.queue("default"))) == ([], 1_000_001 - 1000)
    assert commands(redis) < 3000


@pytest.mark.slow
def test_three_million_expired_ids_are_forgotten_a_thousand_a_call(redis):
    finished = keys.REGISTRIES["finished"] + "default"
    fill(redis, finished, "ZADD", 3_000_000)
    redis.config_resetstat()

    assert recovery(redis).maintain(QUEUES, 60)  # there is more, to be done at once
    assert redis.zcard(finished) == 3_000_000 - 1000
    assert commands(redis) < 100
