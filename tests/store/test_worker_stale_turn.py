"""A turn that reaches Redis after a newer one of the same worker."""

import pytest
from jiffy.worker.turn import Turns
from rq.serializers import JSONSerializer

from jiffy.queues import Queue


def test_a_turn_that_comes_late_does_not_undo_a_newer_one(redis):
    queue = Queue("default", connection=redis, serializer=JSONSerializer)
    jobs = [queue.enqueue("jobs.numbers.add", 1, 2) for _ in range(2)]
    turns = Turns(redis, "slow", ["default"], result_ttl_s=500)
    late = turns._call(1, (), ())
    taken, _, _ = turns.take(1)

    assert turns.line.run("turn", *late) == [[0, [], b"", b""]]
    assert [held.job_id for held in taken] == [jobs[0].id]
    assert redis.zcard("rq:wip:default") == 1
    assert redis.lrange("rq:queue:default", 0, -1) == [jobs[1].id.encode()]


def test_what_was_taken_in_an_exchange_whose_answer_was_lost_is_given_back_by_the_next(redis):
    queue = Queue("default", connection=redis, serializer=JSONSerializer)
    job = queue.enqueue("jobs.numbers.add", 1, 2)
    turns = Turns(redis, "deaf", ["default"], result_ttl_s=500)
    turns.take(0)
    exchange, turns.line.exchange = turns.line.exchange, lambda *said: _say_and_hang_up(redis, said)
    with pytest.raises(KeyboardInterrupt):
        turns.wait_and_take(1, (), 0.01)
    turns.line.exchange = exchange
    assert redis.zcard("rq:wip:default") == 1

    taken, _, _ = turns.wait_and_take(1, (), 0.01)
    assert [held.job_id for held in taken] == [job.id]
    assert redis.zcard("rq:wip:default") == 1


def _say_and_hang_up(redis, said):
    for command in said:
        redis.execute_command(*command)
    raise KeyboardInterrupt
