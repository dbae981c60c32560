"""Waiting for results, without polling."""

import threading
import zlib
from base64 import b64encode

import pytest
import rq
from redis import Redis

import jiffy
from jiffy import keys, wait, wait_all
from jiffy.errors import InvalidValue, JobFailed, StillRunning
from jiffy.producer import results
from tests.jobs import enqueue as enqueue_jobs
from tests.jobs.enqueue import add
from tests.support.newcomer import wait_until


@pytest.fixture
def meanwhile(redis):
    """Do something in a thread once another waits for an answer of Redis."""
    threads = []

    def start(act):
        def run():
            wait_until(lambda: redis.info("clients")["blocked_clients"])
            act()

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def finish(redis, job, value="NQ=="):
    """As a worker leaves it; the value is 5."""
    redis.hset(keys.job(job.id), "status", "finished")
    redis.xadd(keys.results(job.id), {"type": 1, "return_value": value})


def test_a_job_of_rqs_own_producer_is_waited_for(redis_address, work):
    with Redis.from_url(redis_address) as client:  # speaks RESP 3, where ours speaks 2
        job = rq.Queue(connection=client, serializer="json").enqueue(add, 2, 3)
        work()

        assert wait(job) == 5


def test_it_is_one_round_trip_when_the_result_comes_in_time(redis, meanwhile, monkeypatch):
    monkeypatch.setattr(results, "_LOOK_EVERY_MS", 60_000)
    job = jiffy.enqueue(add, 2, 3)
    redis.config_resetstat()
    meanwhile(lambda: finish(redis, job))
    assert wait(job, timeout="60s") == 5
    calls = {name: stat["calls"] for name, stat in redis.info("commandstats").items()}

    assert calls["cmdstat_xread"] <= 2  # it looks once more soon after it began
    assert "cmdstat_xrevrange" not in calls
    assert "cmdstat_hgetall" not in calls


def test_a_failure_is_raised_with_the_end_of_its_traceback(redis, work):
    job = jiffy.enqueue(enqueue_jobs.fail)
    work()
    with pytest.raises(JobFailed) as failure:
        wait(job)

    assert str(failure.value).startswith(f'Job {job.id} failed:\n  File "')
    assert str(failure.value).endswith("ValueError: no card")
    assert failure.value.reason.startswith("ValueError: no card (jobs/enqueue.py:")
    assert failure.value.status == "failed"
    assert "jobs/enqueue.py" in failure.value.traceback


@pytest.mark.parametrize("error", [b"odd", b"\xff", b64encode(zlib.compress(b"0" * 10**7))])
def test_an_error_that_cannot_be_read_or_is_too_large_is_a_failure_all_the_same(redis, work, error):
    job = jiffy.enqueue(enqueue_jobs.fail)
    work()
    redis.delete(keys.results(job.id))
    redis.xadd(keys.results(job.id), {"type": 2, "exc_string": error})

    with pytest.raises(JobFailed) as raised:
        jiffy.wait(job)
    assert len(raised.value.traceback) <= 10**6


def test_a_job_that_fails_once_and_then_finishes_is_waited_for(redis, meanwhile):
    job = jiffy.enqueue(add, 2, 3)
    redis.xadd(keys.results(job.id), {"type": 2, "exc_string": "eJwDAAAAAAE="})
    meanwhile(lambda: finish(redis, job))

    assert wait(job, timeout="60s") == 5


def test_an_id_is_no_job_and_the_error_says_how_to_get_one():
    with pytest.raises(InvalidValue) as refused:
        wait("some-id")

    assert str(refused.value) == "job is 'some-id'; it must be a job, such as find_job(id) returns."


@pytest.mark.parametrize("timeout", [0.05, "50ms"])
def test_after_the_timeout_it_says_how_far_the_job_is(timeout):
    job = jiffy.enqueue(add, 2, 3)
    with pytest.raises(StillRunning, match=f"Job {job.id} is still queued after 50 ms"):
        wait(job, timeout)
    with pytest.raises(TimeoutError):
        wait(job, timeout)


def test_a_job_that_ends_at_the_last_moment_has_ended(redis, monkeypatch):
    job = jiffy.enqueue(add, 2, 3)
    ask = job.get_status

    def end_and_ask():
        finish(redis, job)
        return ask()

    monkeypatch.setattr(job, "get_status", end_and_ask)

    assert wait(job, timeout=0) == 5


@pytest.mark.parametrize(("end", "what"), [("cancel", "canceled"), ("delete", "is gone")])
def test_a_job_that_is_canceled_or_deleted_meanwhile_is_raised(redis, meanwhile, end, what):
    job = jiffy.enqueue(add, 2, 3)
    meanwhile(getattr(job, end))
    with pytest.raises(JobFailed, match=what):
        wait(job, timeout="60s")


def test_a_job_that_keeps_no_result_gives_none(redis, work):
    job = jiffy.enqueue.options(result_ttl=0)(add, 2, 3)
    work()

    assert wait(job, timeout="60s") is None


def test_all_values_come_in_the_order_of_the_jobs(redis, work):
    jobs = jiffy.enqueue_many(add, [(n, 1) for n in range(250)])
    work()

    assert wait_all(jobs, timeout="60s") == [n + 1 for n in range(250)]
    assert wait_all([jobs[3], jobs[1], jobs[3]]) == [4, 2, 4]
    assert wait_all([]) == []


def test_of_all_the_first_failure_is_raised(redis, work):
    jobs = [jiffy.enqueue(add, 1, 1), jiffy.enqueue(enqueue_jobs.fail)]
    work()
    with pytest.raises(JobFailed) as failure:
        wait_all(jobs, timeout="60s")

    assert failure.value.job_id == jobs[1].id


def test_of_many_each_end_is_noticed_while_the_first_ones_wait(redis, work):
    """So a result that is kept for seconds is read before it is gone."""
    jobs = jiffy.enqueue_many(add, [(n, 1) for n in range(250)])
    failing = jiffy.enqueue.options(queue="high")(enqueue_jobs.fail)
    work("high")
    with pytest.raises(JobFailed) as failure:
        wait_all([*jobs, failing], timeout="60s")

    assert failure.value.job_id == failing.id


def test_of_all_one_that_is_not_over_in_time_is_named(redis):
    done, waiting = jiffy.enqueue(add, 1, 1), jiffy.enqueue(add, 1, 1)
    finish(redis, done)
    with pytest.raises(StillRunning) as late:
        wait_all([done, waiting], timeout=0.05)

    assert late.value.job_id == waiting.id


ODD = {
    "its key": lambda redis, job: redis.set(keys.job(job.id), "odd"),
    "its results": lambda redis, job: redis.set(keys.results(job.id), "odd"),
    "no base64": lambda redis, job: finish(redis, job, "NQ"),
    "no JSON": lambda redis, job: finish(redis, job, b64encode(b"\xff")),
    "deep JSON": lambda redis, job: finish(redis, job, b64encode(b"[" * 10**5)),
}


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD)
def test_a_job_that_becomes_unreadable_is_named_and_the_others_are_waited_for(
    redis, meanwhile, spoil
):
    odd, sound = (jiffy.enqueue(add, 2, 3) for _ in range(2))
    meanwhile(lambda: (finish(redis, sound), spoil(redis, odd)))
    with pytest.raises(JobFailed, match=f"Job {odd.id} cannot be read: something else stands"):
        wait_all([sound, odd], timeout="60s")
    watch = results.Watch([odd, sound])
    found = dict(watch.look(block_ms=0) + (watch.look(block_ms=0) if watch.waiting else []))
    assert found[sound].value == 5


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD)
def test_a_command_that_waits_for_it_says_so_in_a_line(redis, command_line, meanwhile, spoil):
    def spoil_it():
        [job_id] = redis.lrange(keys.queue("default"), 0, 0)
        spoil(redis, jiffy.find_job(job_id.decode()))

    meanwhile(spoil_it)
    code, _, errors = command_line("enqueue", "tests.jobs.enqueue.add", 2, 3, "--wait")

    assert (code, errors.splitlines()[-1][:27]) == (1, "The job cannot be read: som")


def test_a_status_that_is_none_is_named_when_the_time_is_over(redis):
    job = jiffy.enqueue(add, 2, 3)
    redis.hset(keys.job(job.id), "status", "odd")
    with pytest.raises(StillRunning, match="is still in an unknown state after 50 ms"):
        wait(job, timeout=0.05)
