"""Many jobs in one POST: all are checked first, and answered in order."""

import pytest

from jiffy import keys
from tests.web.test_api import ADD


@pytest.fixture
def post(api):
    """POST these jobs."""
    return lambda *jobs: api("POST", "/api/jobs", json=list(jobs))


def add(x, y, **options):
    return {"function": "jobs.numbers.add", "args": [x, y], **options}


def test_each_is_answered_for_in_order(api, post, work):
    answer = post(*(add(number, 1) for number in range(5)))
    work()

    assert answer.status_code == 202
    assert [api("GET", one["status_url"]).json["result"] for one in answer.json] == [1, 2, 3, 4, 5]


def test_they_may_differ_in_all_there_is(post, redis):
    answer = post(
        add(1, 1, queue="low"),
        add(1, 2, queue="low", job_id="mine"),
        {"function": "jobs.numbers.add", "kwargs": {"x": 1, "y": 2}, "in": "1h"},
        add(1, 3),
    )

    assert [one["queue"] for one in answer.json] == ["low", "low", "default", "default"]
    assert [one["id"] for one in answer.json][1] == "mine"
    assert redis.zcard(f"{keys.RQ}scheduled:default") == 1


def test_alike_ones_are_written_together(post, redis):
    post(add(1, 2))
    redis.config_resetstat()
    post(*(add(number, 1, timeout="1m") for number in range(100)))

    assert redis.llen(keys.queue("default")) == 101
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] <= 2


def test_none_at_all_is_no_mistake(post, redis):
    answer = post()

    assert (answer.status_code, answer.json, redis.dbsize()) == (202, [], 0)


@pytest.mark.parametrize(
    ("wrong", "detail", "pointer"),
    [
        (add(1, 2, timeout="soon"), "job 3: timeout is 'soon'; it must be 0 or", "#/2/timeout"),
        (add(1, 2, queue=" "), "job 3: queue is ' '; it must be the name", "#/2/queue"),
        ({"function": "jobs.numbers.add"}, "job 3: add() needs the argument 'x'", "#/2"),
        (
            {"function": "os.system", "args": ["true"]},
            "job 3: 'os.system' is not under",
            "#/2/function",
        ),
        ({"args": []}, "job 3: function is None; it must be a path", "#/2"),
        (add(1, 2, depends_on="nope"), "job 3: depends_on is 'nope'; it must be", "#/2/depends_on"),
        (add(1, 2, **{"in": "1m", "at": "2099-01-31T06:00:00Z"}), "job 3: at is", "#/2/at"),
    ],
)
def test_a_wrong_one_is_named_and_nothing_is_written(post, redis, wrong, detail, pointer):
    answer = post(ADD, ADD | {"queue": "low"}, wrong, ADD)

    assert answer.status_code == 422
    assert answer.json["detail"].startswith(detail)
    assert answer.json["pointer"] == pointer
    assert redis.dbsize() == 0


def test_one_that_is_no_object_is_400(post, redis):
    answer = post(ADD, 5)

    assert answer.status_code == 400
    assert answer.json["detail"].startswith("job 2: ")
    assert redis.dbsize() == 0


def test_one_may_depend_on_another_before_it(api, post, work):
    post(add(1, 2, job_id="first"), add(3, 4, job_id="second", depends_on="first"))
    waits = api("GET", "/api/jobs/second").json["state"]
    work()

    assert waits == "deferred"
    assert api("GET", "/api/jobs/second").json["result"] == 7


def test_a_repeated_post_of_jobs_with_ids_doubles_nothing(post, redis):
    jobs = [add(number, 1, job_id=f"job{number}") for number in range(3)]
    post(*jobs)
    again = post(*jobs, add(9, 9, job_id="new"))

    assert [one.get("taken", False) for one in again.json] == [True, True, True, False]
    assert redis.llen(keys.queue("default")) == 4


def test_of_two_with_one_id_the_first_is_enqueued_and_the_second_gets_its_queue(post):
    answer = post(
        add(1, 2, job_id="ld"),
        add(3, 4, job_id="ld"),
        add(5, 6, job_id="ld", queue="low"),
        add(7, 8, job_id="other", queue="low"),
    )

    assert [(one["id"], one["queue"], one.get("taken", False)) for one in answer.json] == [
        ("ld", "default", False),
        ("ld", "default", True),
        ("ld", "default", True),
        ("other", "low", False),
    ]


def test_unique_ones_are_the_first_one_again(post, redis):
    answer = post(add(1, 2, unique="1h"), add(1, 2, unique="1h"), add(2, 2, unique="1h"))
    ids = [one["id"] for one in answer.json]

    assert ids[0] == ids[1] != ids[2]
    assert redis.llen(keys.queue("default")) == 2


def test_a_thousand_are_taken(post, redis):
    assert post(*[ADD] * 1000).status_code == 202
    assert redis.llen(keys.queue("default")) == 1000


def test_more_than_a_thousand_are_refused_with_what_to_do(post, redis):
    answer = post(*[ADD] * 1001)

    assert (answer.status_code, redis.dbsize()) == (422, 0)
    assert answer.json["detail"] == "1,001 jobs; send at most 1,000 at a time."
