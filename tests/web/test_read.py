"""Whatever stands in Redis: it is shown as far as it goes, and nothing is executed."""

import json
import pickle

import pytest
from rq.utils import utcformat

from jiffy import actions, clock, keys, part, result
from jiffy.control import read, values
from jiffy.producer.enqueue import enqueue
from jobs import numbers
from tests.jobs.enqueue import log_in
from tests.web.conftest import PASSWORD, TOKEN, Trap

VIEWS = [
    "/", "/jobs/{}", "/rq/", "/rq/0/view/jobs/default/finished/8/asc/1", "/rq/0/view/workers",
    "/rq/0/view/job/{}", "/rq/0/data/queues.json", "/rq/0/data/workers.json",
    "/rq/0/data/jobs/default/finished/8/asc/1.json", "/rq/0/data/job/{}.json", "/api/jobs/{}",
]  # fmt: skip


@pytest.mark.parametrize("path", ["/api/jobs/done", "/api/jobs/done/wait", "/jobs/done"])
def test_a_job_that_is_gone_before_its_result_is_read_is_gone(
    client, redis, plant, monkeypatch, path
):
    """As at the end of its `result_ttl`: it has not returned None."""
    peek = values.peek

    def peek_and_expire(*asked):
        found = [*peek(*asked)]
        redis.delete(keys.job("done"), keys.results("done"))
        return iter(found)

    plant("done", result=8)
    assert look(client, path).status_code == 200
    monkeypatch.setattr(values, "peek", peek_and_expire)
    assert look(client, path).status_code == 404


def test_what_is_named_like_a_secret_is_shown_nowhere(client, redis, environ):
    environ(JOBS_MODULES="jobs,tests", DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
    put = enqueue.options(meta={"api_key": "hunter-4"})
    job = put(log_in, {"passwd": "hunter-1"}, "hunter-2", "hunter-3", remember=True)
    answers = {view: look(client, view.format(job.id)) for view in VIEWS}
    found = [(view, answer.text) for view, answer in answers.items() if "hunter" in answer.text]

    assert found == []
    assert "&#34;***&#34;}, ***, ***, remember=true" in answers["/jobs/{}"].text


def test_a_secret_that_stock_rq_enqueued_is_masked_by_its_name(redis, plant):
    plant("one", call=("jobs.mail.send", None, [5], {"password": "hunter-1", "to": {"pin": 77}}))

    assert read.job(redis, "one").arguments == '5, password=***, to={"pin": "***"}'


def test_a_secret_in_a_description_of_stock_rq_is_masked_by_its_name(client, plant):
    plant("one", description="jobs.orders.login('ann', api_key='hunter-1')")
    answers = [look(client, view.format("one")).text for view in VIEWS]

    assert not any("hunter" in answer for answer in answers)
    assert any("api_key=***" in answer for answer in answers)


def test_a_result_that_is_still_to_come_is_called_result(redis, environ):
    environ(JOBS_MODULES="jobs,tests")
    last = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, y=result))[-1]

    assert read.job(redis, last.id).arguments == "result, y=result"


def test_only_a_canceled_job_has_the_reason_of_a_cancellation(redis, plant):
    reason = {keys.REASON_FIELD: "it expired"}
    plant("late", status="canceled", error="ValueError: an earlier try", **reason)
    plant("ran", status="finished", **reason)

    assert read.job(redis, "late").error == "it expired"
    assert read.job(redis, "ran").error == ""


def test_nothing_of_an_earlier_attempt_is_shown(redis, plant):
    found = {keys.PROGRESS_FIELD: '{"fraction": 0.0, "note": ""}', "retries_left": 2}
    plant("done", status="finished", result=5, **found)
    plant("again", status="started", error="an earlier try", **found)
    done, again = read.job(redis, "done"), read.job(redis, "again")

    assert (done.progress, done.retries_left) == (None, None)
    assert (again.error, again.retries_left) == ("", 2)


def test_a_job_that_is_retried_by_hand_forgets_how_far_it_was(redis, plant):
    plant("bad", status="failed", **{keys.PROGRESS_FIELD: '{"fraction": 0.4, "note": ""}'})
    actions.retry("bad")

    assert not redis.hexists(keys.job("bad"), keys.PROGRESS_FIELD)


def test_a_deferred_job_has_what_it_depends_on(redis, plant):
    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    after = enqueue.options(depends_on=[first.id, second.id])(numbers.add, 1, 1)

    assert read.job(redis, second.id).depends_on == (first.id,)
    assert read.job(redis, after.id).depends_on == (first.id, second.id)
    assert read.job(redis, first.id).depends_on == ()


def test_the_trap_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "executed")))

    assert (tmp_path / "executed").exists()


def test_looking_at_a_pickled_job_executes_nothing_anywhere(client, pickled):
    job_id, path = pickled
    answers = {view: look(client, view.format(job_id)) for view in VIEWS}

    assert {view: answer.status_code for view, answer in answers.items()} == dict.fromkeys(
        VIEWS, 200
    )
    assert not path.exists()


def test_requeueing_or_deleting_a_pickled_job_executes_nothing(client, pickled, redis):
    from tests.web.conftest import post

    _, path = pickled
    meta = redis.hget(keys.job("trap2"), "meta")

    assert post(client, "/rq/job/trap2/requeue").status_code == 200
    assert redis.hmget(keys.job("trap2"), "status", "meta") == [b"queued", meta]
    assert post(client, "/rq/job/trap/delete").status_code == 200
    assert not path.exists()


def test_a_pickled_job_shows_its_description_and_says_what_is_not_shown(client, pickled, redis):
    text = client.get("/jobs/trap").text
    found = read.job(redis, "trap")

    assert "numbers.add(&lt;Trap&gt;)" in text
    assert "data is pickled: not shown" in found.problems
    assert "result is pickled: not shown" in found.problems


def test_a_listed_job_whose_hash_is_gone_is_skipped(client, plant, redis):
    plant("gone")
    redis.delete(keys.job("gone"))

    assert client.get("/").status_code == 200
    assert client.get("/jobs/gone").status_code == 404


def test_what_is_too_large_stays_in_redis(redis, plant):
    plant("large", result="x" * 12_000_000, description="y" * 3_000_000)
    found = read.job(redis, "large")

    assert found.result is None
    assert "description is too large: 3,000,000 bytes" in found.problems
    assert any(problem.startswith("result is too large") for problem in found.problems)


def test_a_list_inflates_little_of_each_job_and_knows_its_function(redis, plant):
    plant("x", call=("jobs.numbers.add", None, [[{}] * 20_000], {}))
    plant("many", call=("jobs.numbers.add", None, [[]] * 2000, {}), meta=json.dumps({"a": 1}))
    for listed in read.jobs(redis, ["x", "many"]).values():
        assert (listed.call, listed.meta, listed.is_unreadable) == (None, {}, False)
        assert listed.called == "jobs.numbers.add"

    assert read.job(redis, "x").call.args == ([{}] * 20_000,)
    assert read.job(redis, "many").arguments.startswith("[], []")
    assert read.job(redis, "many").meta == {"a": 1}


def test_what_has_few_bytes_but_very_many_values_is_not_read(api, plant):
    """Six such jobs at a time took 700 MB of memory."""
    many = [[]] * 200_000
    call = ("jobs.numbers.add", None, many, {"x": "[,{\\" * 100_000})
    plant("x", call=call, result=many, meta=json.dumps({"a": many}))
    plant("long", result='"[,{\\' * 100_000 + '"')
    found, long = (api("GET", f"/api/jobs/{one}").json for one in ("x", "long"))

    assert [one.split(":")[0] for one in found["problems"]] == [
        f"{field} is too large" for field in ("data", "meta", "result")
    ]
    assert (found["function"], found["meta"], found["result"]) == ("jobs.numbers.add", {}, None)
    assert (long["problems"], len(long["result"])) == ([], 500_001)


def test_data_is_read_whether_it_is_compressed_or_not(redis, plant):
    plant("plain")
    redis.hset(keys.job("plain"), "data", json.dumps(["jobs.numbers.add", None, [1], {"y": 2}]))

    assert read.job(redis, "plain").arguments == "1, y=2"


def look(client, path):
    return client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})


def test_only_the_newest_of_many_jobs_are_moved_and_read(redis, plant):
    for number in range(10):
        ended = utcformat(clock.from_wall(1_700_000_000 + 60 * (number * 7 % 10)))
        plant(f"job{number}", status="finished", ended_at=ended)
    plant("waits", status="queued", enqueued_at=utcformat(clock.now()), ended_at="")
    redis.set(keys.job("odd"), "a string")
    ids = [*(f"job{number}" for number in range(10)), "waits", "gone", "odd"]
    found = read.jobs(redis, ids, newest=5)

    assert set(found) == {"odd", "waits", "job7", "job4", "job1"}  # the last three: 9, 8 and 7
