"""Failures in groups: what belongs together, the trial, and the rest."""

import re
from urllib.parse import unquote_plus

import pytest

from jiffy import keys, tracebacks
from jiffy.control import failures, search
from jiffy.producer.enqueue import enqueue
from jobs import images
from tests.web.conftest import logged_in, post
from tests.web.test_frame import words
from tests.web.test_screens import TRACEBACK

OTHER = TRACEBACK.replace("stripe.error.CardError", "OSError")
KEY = tracebacks.Group.of(TRACEBACK).key


@pytest.fixture
def broken(plant):
    """Thirty jobs that failed in one way, two in another, on three queues."""
    for number in range(30):
        error = TRACEBACK.replace("insufficient_funds", f"order {number}")
        plant(f"bad{number}", status="failed", error=error, origin=f"q{number % 3}")
    for number in range(2):
        plant(f"other{number}", status="failed", error=OTHER, call=["jobs.sync.pull", None, [], {}])


def test_failures_are_grouped_by_exception_and_own_code_the_largest_first(client, broken):
    text = client.get("/failures").text
    groups = re.findall(r'<li id="group-(\w+)">', text)

    assert groups == [KEY, tracebacks.Group.of(OTHER).key]
    assert "30 jobs stripe.error.CardError jobs/shop.py in charge" in words(text).replace(
        "30 job s", "30 jobs"
    )
    assert "Grouped all 32 failed jobs" in words(text)


def test_a_page_shows_so_many_groups_and_how_many_more_there_are(client, broken, monkeypatch):
    monkeypatch.setattr(failures, "MOST_GROUPS", 1)
    text = client.get("/failures").text

    assert (text.count('<li id="group-'), "… and 1 more group." in text) == (1, True)


def test_an_answer_has_so_many_groups_none_of_them_long_whatever_the_errors_say(api, plant):
    def error(number):
        """As of a job whose message is its argument, which looks like a frame and an exception."""
        name = f"foo{number}{'x' * 8000}"
        frame = f'File "/srv/jobs/a.py", line 3, in {name}\n    boom\nE{number}: {"x" * 8000}'
        return f"{TRACEBACK}\n  {frame}"

    for number in range(205):
        plant(f"bad{number}", status="failed", error=error(number))
    answer = api("GET", "/api/failures")

    assert (len(answer.json["groups"]), answer.json["left_out"]) == (200, ["5 more groups"])
    assert len(answer.data) < 500_000


def test_a_group_shows_its_own_code_and_jobs(client, broken):
    text = words(client.get(f"/failures/{KEY}").text)

    assert "jobs/shop.py:41 in charge" in text
    assert "The newest 25. All of them in the list of jobs" in text


def test_without_failures_the_page_says_so(client):
    assert "No failed jobs." in client.get("/failures").text
    assert "No failed job of this group." in client.get("/failures/nothing").text
    assert post(client, "/failures/nothing/trial").status_code == 409


def test_many_failures_are_looked_at_in_part_and_it_is_said(
    client, plant, plant_worker, monkeypatch
):
    plant_worker("w1", **{keys.RELEASE_FIELD: "v2"})
    monkeypatch.setattr(search, "WINDOW", 20)
    for number in range(50):
        plant(f"bad{number}", status="failed", error=TRACEBACK if number < 20 else OTHER,
              **{keys.RELEASE_FIELD: "v2"})  # fmt: skip
    text, far = (words(client.get(path).text) for path in ("/failures", "/failures?far=1"))

    assert "Grouped the newest 20 of 50 failed jobs" in text
    assert ("new in v2" in text, "new in v2" in far) == (False, True)
    assert "Grouped all 50 failed jobs" in far


@pytest.mark.parametrize("asked", ["release=v1", "ignored=1"])
def test_to_look_further_keeps_what_is_shown(client, broken, monkeypatch, asked):
    monkeypatch.setattr(search, "WINDOW", 6)
    [further] = re.findall('href="([^"]*far=1)"', client.get(f"/failures?{asked}").text)

    assert further == f"/failures?{asked}&amp;far=1"


@pytest.mark.usefixtures("same_second")
def test_failures_are_grouped_once_a_second_however_many_programs_ask(api, redis, plant):
    plant("bad", status="failed", error=TRACEBACK)
    first = api("GET", "/api/failures").json
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    answers = [api("GET", "/api/failures").json for _ in range(10)]

    assert answers == [first] * 10
    assert first["groups"][0]["count"] == 1
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before


def test_two_search_far_at_once_and_others_look_at_the_first_window():
    two = [search.turns(True), search.turns(True)]
    assert [next(one) for one in two] == [0, 0]
    third = [*search.turns(True)]
    for one in two:
        one.close()

    assert (third, len([*search.turns(True)])) == ([0], search.FAR)


def test_a_far_search_ends_after_some_time_and_says_how_far_it_came(client, plant, monkeypatch):
    monkeypatch.setattr(search, "WINDOW", 20)
    monkeypatch.setattr(search, "FAR_S", 0)
    for number in range(50):
        plant(f"bad{number}", status="failed", error=TRACEBACK)
    grouped, searched = (
        words(client.get(path).text) for path in ("/failures?far=1", "/jobs?q=nothing&far=1")
    )

    assert "Grouped the newest 20 of 50 failed jobs" in grouped
    assert "Searched the newest 20 of 50 jobs" in searched


def test_a_trial_that_works_leads_to_the_rest(client, work, redis):
    for number in range(3):
        enqueue(images.resize, f"missing{number}.jpg", 200)
    work()
    [key] = re.findall(r'<li id="group-(\w+)">', client.get("/failures").text)
    answer = post(client, f"/failures/{key}/trial")
    waits = client.get(answer.location).text
    work()
    again = client.get(answer.location).text
    trial = answer.location.partition("trial=")[2]
    redis.hset(keys.job(trial), "data", '["jobs.numbers.add", null, [1, 2], {}]')
    post(client, f"/jobs/{trial}/retry")
    work()
    well = client.get(answer.location).text
    rest = post(client, "/jobs/all", q=f"state:failed group:{key}", action="retry")

    assert "was put back on queue default" in waits
    assert "again, in the same way" in again
    assert "It worked." in well
    assert "Retry the other 2…" in well
    assert rest.status_code == 303
    assert "Retried 2 jobs." in client.get("/jobs").text


def test_a_link_cannot_call_another_job_a_trial(client, plant):
    plant("bad", status="failed", error=TRACEBACK)
    plant("other", status="finished", result=3)
    trial = post(client, f"/failures/{KEY}/trial").location
    plant("bad", status="failed", error=TRACEBACK)
    own, made_up = (client.get(trial.replace("trial=bad", f"trial={one}")).text
                    for one in ("bad", "other"))  # fmt: skip
    bare = client.get(f"/failures/{KEY}?trial=other").text

    assert "again, in the same way" in own
    assert [text.count('id="trial"') for text in (own, made_up, bare)] == [1, 0, 0]


def test_a_group_says_what_is_new_in_this_release_and_on_which_it_failed(
    client, app, plant, plant_worker, redis
):
    def fail(job_id, error, release):
        plant(job_id, status="failed", error=error, **{keys.RELEASE_FIELD: release})

    plant_worker("w1", **{keys.RELEASE_FIELD: "v2"})
    fail("a", TRACEBACK, "v1")
    fail("b", TRACEBACK, "v2")
    fail("c", OTHER, "v2")
    text, of_v1, of_v2 = (
        client.get(f"/failures{of}").text for of in ("", "?release=v1", "?release=v2")
    )
    home = client.get("/").text
    [release] = re.findall('name="release" value="([^"]+)"', of_v1)
    tried = post(client, f"/failures/{KEY}/trial", release=release).location
    plant("a", status="failed", error=TRACEBACK, **{keys.RELEASE_FIELD: "v1"})
    # Those that are retried are gone; that they had failed on v1 is remembered.
    post(client, "/jobs/all", q=f"state:failed group:{KEY}", action="retry")
    fail("b", TRACEBACK, "v2")
    again = client.get(f"/failures/{KEY}").text
    # During a deploy, that is the newer one of those that run.
    plant_worker("w2", **{keys.RELEASE_FIELD: "v3"})
    redis.zadd(keys.history("releases"), {"v2": 1.79e9, "v3": 1.79e9 + 60})
    for kept in ("jiffy.census", "jiffy.releases"):
        app.extensions[kept].forget()
    fail("d", OTHER.replace("OSError", "KeyError"), "v3")
    deployed = client.get("/failures").text

    assert (tried.endswith("&trial=a"), "new in" in of_v2) == (True, False)
    assert "new in v3" in deployed
    assert "new in v2" not in deployed
    assert text.count("new in v2") == 1
    assert (f"group-{KEY}" in of_v1, "OSError" in of_v1) == (True, False)
    [all_of_v1] = re.findall('q=([^&"]+)&amp;action=retry', of_v1)
    assert unquote_plus(all_of_v1) == f'state:failed group:{KEY} release:"v1"'
    assert f'id="newest-{KEY}"' in home
    assert "new in" not in again
    assert "release=v1" in again


def test_what_is_new_is_not_said_where_not_all_was_looked_at(
    client, api, plant, plant_worker, monkeypatch
):
    monkeypatch.setattr(search, "WINDOW", 1)
    monkeypatch.setattr(search, "FAR", 1)
    plant_worker("w1", **{keys.RELEASE_FIELD: "v2"})
    for name, release in (("old", "v1"), ("new", "v2")):
        plant(name, status="failed", error=TRACEBACK, **{keys.RELEASE_FIELD: release})
    found = api("GET", "/api/failures").json
    pages = [words(client.get(path).text) for path in ("/failures", f"/failures/{KEY}")]

    assert (found["looked_at"], [one["new"] for one in found["groups"]]) == (1, [False])
    assert "or earlier" in pages[1]


def test_a_program_ignores_a_group_and_shows_it_again(client, api, broken):
    url = f"/api/failures/{KEY}"
    ignored = api("POST", f"{url}/ignore", json={"who": "the runbook"})
    hidden, one = (words(client.get(path).text) for path in ("/failures", f"/failures/{KEY}"))
    shown = api("POST", f"{url}/stop-ignoring")
    nothing = api("POST", "/api/failures/nothing/ignore")

    assert (ignored.status_code, shown.status_code, nothing.status_code) == (200, 200, 409)
    assert ("CardError" in hidden, "ignored by the runbook" in one) == (False, True)
    assert "CardError" in client.get("/failures").text


@pytest.mark.parametrize("release", ["", "v1"])
def test_ignoring_a_group_says_until_when(client, plant_worker, broken, release):
    plant_worker("w1", **{keys.RELEASE_FIELD: release})
    answer = post(client, f"/failures/{KEY}/ignore")
    text = client.get(answer.location).text

    assert ("It comes back" in text, "It stays so" in text) == (bool(release), not release)


def test_an_ignored_group_is_hidden_until_it_fails_on_a_new_release(client, api, plant, broken):
    plant("old", status="failed", error=TRACEBACK, **{keys.RELEASE_FIELD: "v1"})
    post(client, f"/failures/{KEY}/ignore")
    assert api("GET", "/api/audit").json[0]["jobs"] is None
    hidden, shown, one = (
        words(client.get(path).text)
        for path in ("/failures", "/failures?ignored=1", f"/failures/{KEY}")
    )
    home = client.get("/").text
    plant("new", status="failed", error=TRACEBACK, **{keys.RELEASE_FIELD: "v2"})
    back = words(client.get("/failures").text)
    post(client, f"/failures/{KEY}/stop-ignoring")
    after = words(client.get(f"/failures/{KEY}").text)

    assert "CardError" not in hidden
    assert "1 ignored group" in hidden
    assert "ignored by admin " in shown
    assert "Stop ignoring" in one
    assert f'id="newest-{KEY}"' not in home
    assert "back on a new release; ignored by admin" in back
    assert "ignored by" not in after


@pytest.mark.browser
@pytest.mark.parametrize("has_scripts", [True, False])
def test_in_a_browser_one_is_retried_and_then_the_rest(
    chromium, live, client, broken, redis, has_scripts
):
    with logged_in(chromium, live, client, has_scripts) as page:
        page.goto("/")
        page.click("nav >> text=Failures")
        page.click(f"#group-{KEY} button")
        page.wait_for_selector("#trial .state.queued")
        page.click("text=Retry all…")
        page.click("text=Retry them")
        page.wait_for_selector(".done:has-text('Retried 29 jobs.')")

    assert sum(redis.llen(keys.queue(f"q{number}")) for number in range(3)) == 30


def test_nothing_is_retried_by_get_or_without_a_token(client, broken, redis):
    codes = (client.get(f"/failures/{KEY}/trial").status_code,
             client.post(f"/failures/{KEY}/trial").status_code)  # fmt: skip

    assert codes == (405, 403)
    assert redis.zcard(keys.REGISTRIES["failed"] + "q0") == 10
