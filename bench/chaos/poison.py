"""Jobs that are bad in every way there is: those that do harm, and those that cannot be read."""

from bench.chaos.ledger import QUEUE, Expected
from bench.chaos.stage import Stage
from jiffy import keys

LIMIT_S = 3
GOOD = 240
OF_EACH = 2

# What it is -> the function and its arguments after the name.
DEEDS: dict[str, tuple[str, tuple[object, ...]]] = {
    "segfault": ("segfault", ()),
    "os._exit(0)": ("leave", (0,)),
    "os._exit(1)": ("leave", (1,)),
    "kill -9 of itself": ("kill_itself", ()),
    "an endless loop in C": ("hold_the_interpreter", ()),
    "a swallowed timeout": ("swallow_the_timeout", ()),
    "a memory hog": ("hog_memory", ()),
    "a giant result": ("return_a_giant", ()),
    "an unknown function": ("no_such_function", ()),
}

# What it is -> the fields of the job's hash that are spoilt.
SPOILT: dict[str, dict[str, bytes]] = {
    "an unknown status": {"status": b"perplexed"},
    "a status that is not UTF-8": {"status": b"\xff\xfe"},
    "a date that is none": {"created_at": b"yesterday"},
    "a timeout that is no number": {"timeout": b"soon"},
    "a result_ttl that is no number": {"result_ttl": b"long"},
    "data that is noise": {"data": b"\x00\x01noise\xff"},
    "a description that is not UTF-8": {"description": b"\xff\xfe"},
    "an origin that is not UTF-8": {"origin": b"\xff\xfe"},
    "dependency ids that are no list": {"dependency_ids": b"{"},
    "retry intervals that are no list": {"retry_intervals": b"{", "retries_left": b"1"},
}
A_KEY_OF_ANOTHER_TYPE = "a key of another type"


def enqueue_all(stage: Stage) -> None:
    """Good jobs, and poison of every kind among them."""
    kinds = [*DEEDS, *SPOILT, A_KEY_OF_ANOTHER_TYPE] * OF_EACH
    stage.rng.shuffle(kinds)
    every = GOOD // len(kinds)
    for number in range(GOOD):
        stage.enqueue_good(number)
        if number % every == 0 and kinds:
            _enqueue(stage, kinds.pop(), f"poison-{number}")
    assert not kinds, "there are more good jobs than poison"


def _enqueue(stage: Stage, kind: str, job_id: str) -> None:
    stage.poison[job_id] = kind
    if kind in DEEDS:
        function, args = DEEDS[kind]
        # As RQ's: ours refuses to enqueue a function that is not there, but another release may.
        stage.producer.as_rqs(function, args, job_id, LIMIT_S)
        stage.producer.expect(Expected(job_id))
        return
    job = stage.producer.write_unqueued("work", 0, job_id=job_id)
    with stage.wires.server.client() as redis:
        if kind == A_KEY_OF_ANOTHER_TYPE:
            redis.delete(job.key)
            redis.rpush(job.key, "not a hash")
        else:
            redis.hset(job.key, mapping=dict(SPOILT[kind]))
        redis.rpush(keys.queue(QUEUE), job_id)
