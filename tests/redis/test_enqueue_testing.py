"""What `jiffy.testing` gives to the tests of a user's project."""

import jiffy
from jiffy import keys, part, result, wait
from jobs import images, numbers
from tests.jobs import enqueue as enqueue_jobs


def test_inline_runs_many_and_what_a_job_enqueues(inline):
    jobs = jiffy.enqueue_many(numbers.add, [(1, 1), (2, 2)])
    jiffy.enqueue(enqueue_jobs.enqueue_another)

    assert [job.return_value() for job in jobs] == [2, 4]
    assert inline.jobs == []
    assert inline.redis.zcard(f"{keys.RQ}finished:default") == 4


def test_inline_a_failure_is_in_the_job_as_in_production(inline, caplog):
    job = jiffy.enqueue.options(queue="low")(images.resize, "missing.jpg", 200)

    assert job.is_failed
    assert "ValueError" in job.latest_result().exc_string


def test_inline_runs_a_chain_and_a_group(inline):
    chain = jiffy.enqueue.chain(part(numbers.add, 1, 1), part(numbers.add, result, 1))
    group = jiffy.enqueue.group(
        [part(numbers.add, n, n) for n in range(3)], part(numbers.add, 2, 3)
    )

    assert (chain[-1].return_value(), group.then.return_value()) == (3, 5)
    assert inline.jobs == []


def test_inline_what_is_for_later_waits(inline):
    jiffy.enqueue.options(in_="5m")(numbers.add, 2, 3)

    assert inline.has(numbers.add, 2, 3)


def test_queued_tells_what_was_enqueued(queued):
    jiffy.enqueue.options(queue="low")(numbers.add, 2, y=3)

    assert queued.has(numbers.add, 2, 3)
    assert queued.has(numbers.add, x=2, y=3)
    assert not queued.has(numbers.add, 3, 2)
    assert [(job.func_name, job.origin) for job in queued.jobs] == [("jobs.numbers.add", "low")]


def test_queued_knows_what_is_left_out(queued):
    jiffy.enqueue(enqueue_jobs.add, 1)

    assert queued.has(enqueue_jobs.add, 1)
    assert queued.has(enqueue_jobs.add, 1, 0)
    assert not queued.has(enqueue_jobs.add, 1, 2)


def test_queued_tells_of_the_parts_that_wait_for_others(queued):
    jiffy.enqueue.chain(part(numbers.add, 1, 1), part(numbers.add, result, 10))

    assert queued.has(numbers.add, result, 10)
    assert queued.has(numbers.add, result, y=10)
    assert len(queued.run()) == 1


def test_queued_tells_of_what_waits_for_a_slot(queued):
    for number in range(3):
        jiffy.enqueue.options(rate_limit="stripe:1")(numbers.add, number, 0)

    assert [queued.has(numbers.add, number, 0) for number in range(3)] == [True] * 3


def test_queued_runs_a_chain_to_its_end(queued):
    *_, last = jiffy.enqueue.chain(part(numbers.add, 1, 1), part(numbers.add, result, 1))
    waiting = [job.args for job in queued.jobs]
    queued.run()

    assert waiting == [[1, 1], [result, 1]]
    assert (wait(last), queued.jobs) == (3, [])


def test_each_test_begins_with_an_empty_redis_of_its_own(queued, redis_address):
    assert queued.jobs == []
    assert queued.redis.dbsize() == 0
    assert queued.redis.connection_pool.connection_kwargs["path"] not in redis_address
