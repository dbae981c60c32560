"""Every change is on record before it is made, by whatever way, and nothing secret with it."""

import html
import re
from socket import gethostname

import pytest

from jiffy import every, keys
from jiffy.cli import load, run
from jiffy.control import bulk, pauses
from jiffy.control.values import text
from jobs import numbers
from tests.web.conftest import PASSWORD, log_in, post
from tests.web.test_api import ADD


@pytest.fixture
def recorded(api):
    """What the API shows of a kind, the newest first: `recorded("changes")`."""

    def read(kind, **query):
        return api("GET", "/api/audit", query_string={"kind": kind, **query}).json

    return read


def test_every_way_to_change_something_is_recorded_with_who_and_how_many(
    client, api, plant, recorded
):
    for job_id in ("a", "b", "c", "d"):
        plant(job_id, status="failed", error="boom")
    post(client, "/jobs/act", action="retry", id=["a", "b"])
    post(client, "/rq/job/c/requeue")
    post(client, "/rq/requeue/default")
    post(client, "/queues/default/pause", why="the <b>disk</b> is full", until="2h")
    api("POST", "/api/jobs/a/stop")
    api("POST", "/api/pauses/resume", json={"queue": "default"})
    api("POST", "/api/jobs", json=[ADD, ADD])
    changes = [[one["who"], one["what"], one["jobs"], one["status"]] for one in recorded("changes")]

    assert changes[::-1] == [
        ["admin", "jobs.some", 2, 303],
        ["admin", "rq_dashboard.requeue_job_view", 1, 200],
        ["admin", "rq_dashboard.requeue_all", 1, 200],
        ["admin", "queues.pause", None, 303],
        ["API_TOKEN", "api.stop_job", None, 409],
        ["API_TOKEN", "api.resume", None, 200],
    ]
    assert recorded("changes")[2]["on"] == "name=default until=2h why=the <b>disk</b> is full"
    assert recorded("changes")[0]["on"] == "queue=default"
    assert [(one["jobs"], one["status"]) for one in recorded("enqueued")] == [(2, 202)]
    text = client.get("/audit").text
    assert "&lt;b&gt;disk" in text
    for words in ("act on selected jobs (jobs)", "requeue all (rq-dashboard)", "stop job (api)"):
        assert words in re.sub("<[^>]*>", "", text)


def test_an_entry_says_what_was_done_whatever_else_was_sent(client, plant, recorded):
    for job_id in ("a", "b", "c"):
        plant(job_id, status="failed", error="boom")
    post(client, "/jobs/act?action=delete", action="retry", id="a", sure="yes")
    post(client, "/jobs/act", action="delete", id=["b", "c"], sure="yes", name="x" * 999)
    newest, oldest = recorded("changes")

    assert oldest["on"] == "id=a action=retry"
    assert "Retried" in client.get("/jobs/a").text
    assert newest["on"].endswith("x… id=b c action=delete done=b c")


def test_skips_that_are_taken_back_do_not_look_like_a_skip(api, declare, recorded):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    for sent in ({}, {"count": 2}, {"count": 0}):
        api("POST", "/api/schedule/sum/skip", json=sent)

    on = [one["on"] for one in recorded("changes")[::-1]]
    assert on == ["name=sum", "name=sum count=2", "name=sum count=0"]


def test_what_was_only_asked_or_came_too_late_is_not_recorded_as_done(
    client, plant, declare, recorded
):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    plant("a", status="failed", error="boom")
    post(client, "/jobs/act", action="delete", id="a")
    post(client, "/schedule/sum/skip", count="1", shown="another run")
    late, asked = recorded("changes")

    assert (asked["jobs"], late["status"]) == (0, 409)


def test_neither_a_long_filter_nor_ids_of_no_jobs_hide_what_was_changed(client, plant, recorded):
    plant("mine", status="failed", error="boom")
    plant("other", status="failed", error="boom", origin="billing")
    hidden = f"state:failed queue:{'a' * 400},billing"
    post(client, "/jobs/all", action="delete", q=hidden)
    post(client, "/jobs/act", action="retry", id=[*("x" * 40 + str(n) for n in range(9)), "mine"])
    newest, oldest = recorded("changes")

    assert (oldest["jobs"], oldest["on"]) == (1, f"action=delete q={hidden}")
    assert (newest["jobs"], newest["on"].endswith(" done=mine")) == (1, True)


def test_an_entry_names_the_filter_and_the_job_that_was_enqueued(
    client, api, redis, declare, recorded
):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    redis.zadd(keys.LEASES, {"w1": redis.time()[0] + 60})
    redis.hset(keys.worker("w1"), "queues", "default")
    pages = [
        post(client, "/jobs/all", action="retry", q="state:failed", rate="5"),
        post(client, "/new", function="jobs.numbers.add", **{"arg.x": "1", "arg.y": "2"}),
        post(client, "/schedule/sum/run"),
    ]
    made = [
        api("POST", "/api/bulk", json={"action": "retry", "filter": "state:failed fn:shop"}).json,
        api("POST", "/api/schedule/sum/run").json,
        api("POST", "/api/jobs", json=ADD).json,
    ]
    bulk, new = (answer.location.rpartition("/")[2] for answer in pages[:2])
    changes = [one["on"] for one in recorded("changes")][::-1]

    assert [answer.status_code for answer in pages] == [303] * 3
    assert changes[0] == f"action=retry q=state:failed rate=5 job={bulk}"
    assert changes[1] == f"function=jobs.numbers.add job={new}"
    assert re.fullmatch("name=sum job=sum.+", changes[2])
    assert changes[3] == f"action=retry filter=state:failed fn:shop job={made[0]['id']}"
    assert changes[4] == f"name=sum job={made[1]['id']}"
    assert recorded("enqueued")[0]["on"] == f"function=jobs.numbers.add job={made[2]['id']}"


def test_what_is_done_in_a_shell_is_recorded(client, plant, declare, recorded, redis):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    for job_id in ("a", "b"):
        plant(job_id, status="failed", error="boom")
    run(load("bulk"), ["retry", "state:failed", "--yes"])
    run(load("pause"), ["queue", "low", "--why", "the disk is full"])
    run(load("resume"), ["queue", "low"])
    for words in (
        ["pause", "sum", "--why", "x"],
        ["resume", "sum"],
        ["run", "sum"],
        ["skip", "sum"],
    ):
        run(load("scheduler"), words)
    changes = recorded("changes")[::-1]
    [job_id] = [text(one) for one in redis.lrange(keys.queue("default"), 0, -1)][-1:]

    assert {one["status"] for one in changes} == {200}
    assert [(one["what"], one["on"], one["jobs"]) for one in changes] == [
        ("shell.bulk", "action=retry filter=state:failed", 2),
        ("shell.pause", "queue=low why=the disk is full", None),
        ("shell.resume", "queue=low", None),
        ("shell.schedule.pause", "name=sum why=x", None),
        ("shell.schedule.resume", "name=sum", None),
        ("shell.schedule.run", f"name=sum job={job_id}", None),
        ("shell.schedule.skip", "name=sum count=1", None),
    ]
    assert {(one["who"], one["from"]) for one in changes} == {(pauses.user(), gethostname())}
    assert "shell.schedule.skip" in client.get("/audit").text


def test_an_entry_says_where_nothing_was_to_be_ended(client, api, declare, recorded):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    run(load("scheduler"), ["pause", "sum", "--why", "x"])
    for _ in range(2):
        post(client, "/schedule/sum/resume")
    post(client, "/queues/low/resume")
    post(client, "/failures/abc/stop-ignoring")
    api("POST", "/api/schedule/sum/resume")
    api("POST", "/api/pauses/resume", json={"queue": "low"})
    api("POST", "/api/failures/abc/stop-ignoring")
    run(load("resume"), ["queue", "low"])
    run(load("scheduler"), ["resume", "sum"])

    assert [one["on"] for one in recorded("changes")][::-1] == [
        "name=sum why=x",
        "name=sum",
        "name=sum done=nothing",
        "name=low done=nothing",
        "key=abc done=nothing",
        "name=sum done=nothing",
        "queue=low done=nothing",
        "key=abc done=nothing",
        "queue=low done=nothing",
        "name=sum done=nothing",
    ]


def test_a_shell_says_whose_pause_it_replaces(declare, redis, capsys):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    for command, *words in (["pause", "queue", "low"], ["scheduler", "pause", "sum"]):
        for who in ("ann", "bob"):
            run(load(command), [*words, "--why", "fraud", "--who", who])

    said = capsys.readouterr().out
    assert said.count("This takes the place of the pause by ann: fraud\n") == 2
    assert said.count("takes the place") == 2


def test_what_a_shell_was_refused_is_recorded_as_that(declare, recorded):
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    for command, *words in (
        ["pause", "queue", "low", "--why", "x", "--until", "yesterday"],
        ["resume", "function", "no path"],
        ["scheduler", "run", "some"],
        ["scheduler", "pause", "sum", "--why", "x", "--until", "10"],
    ):
        with pytest.raises(SystemExit):
            run(load(command), words)
    changes = recorded("changes")[::-1]

    assert [(one["what"], one["on"], one["status"]) for one in changes] == [
        ("shell.pause", "queue=low until=yesterday why=x", 422),
        ("shell.resume", "function=no path", 422),
        ("shell.schedule.run", "name=some", 422),
        ("shell.schedule.pause", "name=sum until=10 why=x", 422),
    ]


def test_a_call_that_gives_the_job_of_an_earlier_one_is_not_recorded_as_enqueued(
    client, api, recorded
):
    unique = ADD | {"unique": "1h"}
    form = {"function": "jobs.numbers.add", "arg.x": "5", "arg.y": "3", "opt.unique": "1h"}
    first = api("POST", "/api/jobs", json=unique | {"queue": "low"}).json
    again = api("POST", "/api/jobs", json=unique).json
    answer = post(client, "/new", **form)
    page = client.get(answer.location).text

    assert again == first | {"taken": True}  # on the queue where it is
    assert [one["on"] for one in recorded("enqueued")] == [
        f"queue=low function=jobs.numbers.add job={first['id']}"
    ]
    assert answer.location == f"/jobs/{first['id']}"
    assert ("Enqueued" in page, "Nothing was enqueued" in page) == (False, True)
    assert [one["jobs"] for one in recorded("changes")] == [0]


def test_jobs_that_were_there_already_do_not_count_as_enqueued(api, recorded):
    for ids in ("ab", "abc", "abc"):
        api("POST", "/api/jobs", json=[ADD | {"job_id": job_id} for job_id in ids])

    assert [one["jobs"] for one in recorded("enqueued")] == [1, 2]


def test_jobs_before_one_that_is_refused_in_the_end_are_on_record(api, redis, recorded):
    job = {"function": "jobs.numbers.add", "args": [1, 2]}
    api("POST", "/api/jobs", json=job | {"unique": "1h"})
    sent = [job | {"queue": "low"}, job | {"unique": "1h", "job_id": "another"}]
    answer = api("POST", "/api/jobs", json=[*sent, job | {"depends_on": ["another"]}])

    assert (answer.status_code, redis.llen(keys.queue("low"))) == (422, 1)
    assert answer.json["detail"].endswith("a job that exists. Enqueued before it: 1.")
    assert [(one["jobs"], one["status"]) for one in recorded("enqueued")] == [(1, 422), (None, 202)]


def test_a_form_without_its_filter_does_not_mean_every_job(client, plant, redis):
    plant("x", status="failed", error="boom")
    answer = post(client, "/jobs/all", action="delete")

    assert (answer.status_code, redis.exists(keys.job("x"))) == (422, 1)


def test_no_argument_password_or_mistyped_name_is_recorded(client, app, api, redis, plant):
    plant("x", status="failed")
    log_in(app.test_client(), user="my secret", password="my secret")
    log_in(app.test_client(), password="my secret")
    post(client, "/jobs/act", action="retry", id="x", arguments="my secret")
    api("POST", "/api/jobs", json=ADD | {"meta": {"key": "my secret"}})
    kinds = ("changes", "enqueued", "logins", "refused")
    raw = [redis.xrange(keys.audit(kind)) for kind in kinds]

    assert all(raw)
    assert "my secret" not in str(raw)
    assert PASSWORD not in str(raw)
    logins, refused = ([(one[b"who"], one[b"what"]) for _, one in kind] for kind in raw[2:])
    assert logins == [(b"admin", b"logged in")]  # which strangers cannot push out
    assert refused == [(b"", b"refused: password"), (b"admin", b"refused: password")]


def test_logouts_push_no_change_out_of_the_audit(client, plant, recorded):
    """A viewer may log out, so 10,000 of theirs would hide what operators did."""
    plant("x", status="failed")
    post(client, "/jobs/x/retry")
    post(client, "/logout")

    assert [one["what"] for one in recorded("changes")] == ["jobs.act"]
    logins = [(one["who"], one["what"]) for one in recorded("logins")]
    assert logins == [("admin", "logged out"), ("admin", "logged in")]


@pytest.mark.parametrize("is_stream", [True, False])
def test_what_cannot_be_recorded_is_not_done(client, redis, plant, is_stream):
    plant("x", status="failed")
    if is_stream:  # to which nothing can be added any more
        redis.xadd(keys.audit("changes"), {"who": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")
    else:
        redis.set(keys.audit("changes"), "of another type")
    answer = post(client, "/jobs/x/retry")

    assert answer.status_code == 503
    assert keys.audit("changes") in answer.text
    assert "Delete or rename the key." in answer.text
    assert redis.hget(keys.job("x"), "status") == b"failed"
    assert client.get("/audit").status_code == 200


def test_a_full_redis_is_emptied_all_the_same_and_the_log_has_the_record(
    client, redis, plant, caplog
):
    plant("x", status="failed")
    caplog.set_level("INFO", "jiffy")
    redis.config_set("maxmemory", 1)
    try:
        answer = post(client, "/jobs/act", action="delete", id="x", sure="yes")
    finally:
        redis.config_set("maxmemory", 0)

    assert answer.status_code == 303
    assert not redis.exists(keys.job("x"))
    assert "audit.full who=admin what=jobs.some" in caplog.text
    done = "dashboard.acted who=admin what=jobs.some on='id=x action=delete' jobs=1 status=303"
    assert done in caplog.text


@pytest.mark.parametrize("path", ["/jobs/act", "/jobs/all", "/rq/requeue/low"])
def test_what_was_done_before_redis_was_full_is_on_record(
    client, redis, plant, caplog, monkeypatch, path
):
    ids = [plant(f"x{number}", status="failed", origin="low") for number in range(5)]
    retry, done = bulk.ACTIONS["retry"], list[str]()

    def fill_and_retry(job_id, seen):
        redis.config_set("maxmemory", 1 if len(done) == 3 else 0)
        retry.do(job_id, seen)
        done.append(job_id)

    monkeypatch.setitem(bulk.ACTIONS, "retry", retry._replace(do=fill_and_retry))
    caplog.set_level("INFO", "jiffy")
    try:
        answer = post(client, path, action="retry", id=ids, q="queue:low")
    finally:
        redis.config_set("maxmemory", 0)

    assert (answer.status_code, redis.llen(keys.queue("low"))) == (503, 3)
    [acted] = [one.getMessage() for one in caplog.records if "dashboard.acted" in one.getMessage()]
    assert "jobs=3 status=503" in acted


def test_a_stream_is_read_in_pages_whatever_stands_in_it(client, redis, recorded):
    for number in range(320):
        redis.xadd(
            keys.audit("changes"), {"who": f"user{number}", "jobs": "\xff", "status": "9" * 99}
        )
    redis.xadd(keys.audit("changes"), {"who": b"\xff"}, id=f"{2**62}-0")
    newest = recorded("changes")
    older = recorded("changes", before=newest[-1]["id"])
    text = client.get("/audit").text

    assert (newest[0]["at"], newest[1]["who"], newest[1]["jobs"]) == (None, "user319", None)
    assert older[0]["who"] == "user220"
    assert len(re.findall('<tr id="entry-', text)) == 100


def test_a_page_of_earlier_entries_says_so_and_leads_back(client, redis):
    for number in range(102):
        redis.xadd(keys.audit("refused"), {"who": f"user{number}"})
    text = client.get("/audit?kind=refused").text
    [earlier] = re.findall('rel="next" href="([^"]*)"', text)
    page = client.get(html.unescape(earlier)).text

    assert "Later entries are left out." not in text
    assert "Later entries are left out." in page
    assert page.count('<tr id="entry-') == 2
    [back] = re.findall('href="([^"]*)">Back to the newest', page)
    assert client.get(back).text.count('<tr id="entry-') == 100
