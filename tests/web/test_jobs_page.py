"""The list of jobs: what a filter finds, how far a search goes, and acting on many jobs."""

import html
import re
from datetime import timedelta
from urllib.parse import unquote_plus

import pytest
from rq.utils import utcformat

from jiffy import clock, keys, tracebacks
from jiffy.control import search
from tests.web.conftest import logged_in, post
from tests.web.test_browser import refresh, stop_the_clock

TRACEBACK = 'Traceback …\n  File "/app/jobs/shop.py", line 4, in charge\nCardError: declined'
KEY = tracebacks.Group.of(TRACEBACK).key


@pytest.fixture
def shop(plant):
    """A job of each kind."""
    plant(
        "paid",
        call=["jobs.shop.charge", None, [1], {"order_id": 7, "to": {"city": "Kyiv"}}],
        description="jobs.shop.charge(1)",
        started_at=ago(100),
        ended_at=ago(90),
        worker_name="w1",
    )
    plant(
        "declined",
        status="failed",
        error=TRACEBACK,
        origin="low",
        **{keys.RELEASE_FIELD: "v42"},
        call=["jobs.shop.charge", None, [2], {"order_id": 8, "token": "tok"}],
        started_at=ago(4000),
        ended_at=ago(3999),
    )
    plant("killed", status="failed", error="Work-horse was stopped",
          call=["jobs.sync.pull", None, [], {}],
          enqueued_at=ago(9000), started_at=ago(8000), ended_at=ago(7000))  # fmt: skip
    plant("next", status="queued", origin="low", description="monthly bill",
          call=["jobs.numbers.add", None, [5, {"order_id": 70}], {}])  # fmt: skip
    plant("now", status="started", started_at=ago(1), worker_name="w2")
    plant("then", status="scheduled", enqueued_at=ago(3))


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("", "next now paid then declined killed"),
        ("state:failed", "declined killed"),
        ("state:waiting,running", "next now"),
        ("queue:low", "next declined"),
        ("queue:l*", "next declined"),
        ("fn:jobs.shop.*", "paid declined"),
        ("fn:shop", "paid declined"),
        ("fn:shop state:failed", "declined"),
        ("fn:sync, fn:none,", "killed"),
        ('fn:"jobs.shop" fn:"jobs.sync.pull"', "killed"),  # in quotes, a part is not enough
        ("worker:w1", "paid"),
        ("error:carderror", "declined"),
        ('error:"was stopped"', "killed"),
        ("release:v4*", "declined"),
        ("id:pai", "paid"),
        ("after:30m", "next now paid then"),
        ("before:30m", "declined killed"),
        ("before:2026-01-01", ""),
        ("slower:5s", "paid killed"),
        ("args.order_id:7", "paid"),
        ("args.order_id:70 args.order_id:7", "paid next"),
        ("args.order_id:* args.city:k*v", "paid"),
        ("args.city:kyiv", "paid"),
        ("args.x:5", "next now then"),  # a positional argument has its parameter's name
        ("args.y:5", ""),
        ("args.order_id:*", "paid declined next"),
        ("args.token:tok", ""),  # masked: not to be guessed either
        ("bill", "next"),
        ("https://nowhere", ""),
    ],
)
def test_a_filter_finds_jobs(client, shop, written, ids):
    assert sorted(listed(client, written)) == sorted(ids.split())


def test_a_whole_id_leads_to_its_job(client, shop):
    assert client.get("/jobs?q=declined").location == "/jobs/declined"
    assert client.get("/jobs?q=declin").status_code == 200


@pytest.mark.parametrize(
    ("written", "failed"), [("", "2"), ("queue:low", "1"), ("queue:low state:queued", "1"),
                            ("fn:jobs.shop.*", "")],
)  # fmt: skip
def test_the_tabs_of_the_states_keep_the_rest_of_the_filter(client, shop, written, failed):
    [link] = re.findall('<li id="tab-failed"><a href="([^"]*)" >(.*?)</a>',
                        client.get("/jobs", query_string={"q": written}).text)  # fmt: skip
    rest = written.replace(" state:queued", "")

    assert unquote_plus(link[0]) == f"/jobs?q={f'state:failed {rest}'.strip()}"
    assert re.findall(r"\d+", link[1]) == [failed] * bool(failed)


def test_jobs_that_stand_in_no_queue_are_listed_found_and_canceled(client, plant, redis):
    apart = {
        "slotless": ("rate_limited", f"{keys.RQ}rl:stripe:rate_limited"),
        "next": ("ready_to_enqueue", f"{keys.RQ}ready:low"),
        "parked": ("queued", keys.parked("jobs.numbers.add")),
    }
    for job_id, (state, key) in apart.items():
        fields = {"rate_limit_key": "stripe", keys.PARKED_FIELD: "jobs.numbers.add"}
        redis.delete(keys.queue("low"))
        plant(job_id, status=state, origin="low", **fields)
        redis.zadd(key, {job_id: 5})
    redis.delete(keys.queue("low"))
    redis.sadd(f"{keys.RQ}rl-keys", "stripe")
    redis.sadd(f"{keys.OWN}parked", "jobs.numbers.add")
    written = ("", "state:ready", "state:rate_limited queue:low", "queue:default")
    found = [sorted(listed(client, one)) for one in written]
    asked = client.get("/jobs/all?action=cancel&q=queue:low").text
    text, of_queue = (client.get(path).text for path in ("/jobs", "/jobs?q=queue:low"))
    post(client, "/jobs/all", q="queue:low", action="cancel")

    assert found == [["next", "parked", "slotless"], ["next"], ["slotless"], []]
    assert "Searched all 3 jobs" in text
    assert ">queued</a>" in of_queue  # only a search tells which are
    assert re.search('queued <span class="quiet">1<', text)
    assert "<b>1</b> waiting" in text
    assert "Cancel 3 jobs?" in asked
    assert sorted(listed(client, "state:canceled")) == ["next", "parked", "slotless"]


def test_links_lead_to_one_function_worker_and_release_and_not_to_longer_names(
    client, plant, plant_worker, redis
):
    """`vm.1` is a part of `vm.10`, as `jobs.pay` is of `jobs.pay_all`."""
    for job_id, end in (("one", ""), ("another", "0")):
        fields = {"worker_name": f"vm.1{end}", keys.RELEASE_FIELD: f"v1{end}"}
        plant(job_id, status="failed", error=TRACEBACK, call=[f"jobs.pay{end}", None, [], {}],
              **fields)  # fmt: skip
    plant_worker("vm.1", failed_job_count="1")
    redis.zadd(keys.history("releases"), {"v1": clock.wall() - 60})
    plant_worker("vm.2", **{keys.RELEASE_FIELD: "v1"})
    pages = ("/", "/jobs/one", "/failures", f"/failures/{KEY}", "/workers")
    text = "".join(client.get(path).text for path in pages)
    asked = {html.unescape(one) for one in re.findall(r'/jobs\?q=([^"]*)"', text)}
    names = [unquote_plus(one) for one in asked if re.search("fn:|worker:|release:", one)]
    of_release = client.get("/failures?release=v1").text

    assert {re.search(r"(\w+):\"", one)[1] for one in names} == {"fn", "worker", "release"}
    for one in names:
        assert listed(client, one) == ["another" if "0" in one else "one"]
    assert (">jobs.pay<" in of_release, ">jobs.pay0<" in of_release) == (True, False)


def test_the_newest_stand_first(client, shop):
    assert listed(client, "state:failed,finished") == ["paid", "declined", "killed"]


@pytest.mark.parametrize(
    "written",
    [
        "state:lost",
        "after:soon",
        "slower:much",
        'error:""',
        "id:" + "x" * 1000,
        "group:a " * 31,
        "fn:" + "a," * 31,
        "args.order_id:* " * 4,
    ],
)
def test_what_is_not_understood_is_named_and_never_acted_upon(client, shop, redis, written):
    text = client.get("/jobs", query_string={"q": written}).text
    answer = post(client, "/jobs/all", q=written, action="delete")

    assert 'class="warning"' in text
    assert ("was left out" in text) == ("No job matches" not in text)
    assert (answer.status_code, redis.exists(keys.job("paid"))) == (422, 1)


def test_a_long_list_goes_on_and_says_how_far_it_came(client, plant):
    for number in range(620):
        plant(
            f"job{number:03}", status="queued", description="odd" if number % 310 == 5 else "even"
        )
    page = client.get("/jobs").text
    searched = client.get("/jobs?q=odd").text

    assert "Searched the newest 50 of 620 jobs" in page
    assert "Searched the newest 500 of 620 jobs" in searched
    assert (walk(client, ""), walk(client, "odd")) == (620, 2)
    assert "Searched all 620 jobs" in client.get("/jobs?q=odd&far=1&from=500.0.0").text


def test_a_later_page_does_not_say_that_no_job_matches(client, plant):
    plant("one", status="queued")

    assert "No other job matches." in client.get("/jobs?q=state:queued one&from=500.0.0").text
    assert "No job matches." in client.get("/jobs?q=state:queued two").text


def test_the_first_page_of_several_lists_says_how_far_it_came(client, plant):
    for number in range(80):
        plant(f"job{number:02}", status="queued", origin=f"q{number % 2}")

    assert "Searched the newest 50 of 80 jobs" in client.get("/jobs").text
    assert walk(client, "") == 80


def test_more_lists_than_one_window_takes_hide_no_job(client, plant):
    for number in range(search.WINDOW + 20):
        plant(f"job{number:03}", status="queued", origin=f"q{number:03}")

    assert walk(client, "") == search.WINDOW + 20


def test_a_search_that_goes_further_is_not_repeated_by_itself(client, shop):
    """It takes up to five seconds, and every open tab would begin another every two."""
    for path in ("/jobs?q=nothing", "/failures?x", "/failures/x?x"):
        near, far = client.get(path).text, client.get(f"{path}&far=1").text

        assert ('id="live"' in near, 'id="live"' in far) == (True, False)


@pytest.mark.parametrize("cursor", ["x", "-1.0.0", "9" * 12 + ".0.0", "1.1"])
def test_an_odd_cursor_begins_anew(client, shop, cursor):
    assert "Searched" in client.get("/jobs", query_string={"from": cursor}).text


@pytest.mark.parametrize(
    ("action", "ids", "said"),
    [
        ("retry", ["declined", "paid"], "Retried 1 job. 1 left as they are: Job &#39;paid&#39; is"),
        ("cancel", ["next", "then"], "Canceled 2 jobs."),
        (
            "delete",
            ["paid", "now"],
            "Deleted 1 job. 1 left as they are: Job &#39;now&#39; is started.",
        ),
        ("retry", ["gone"], "Retried 0 jobs. 1 left as they are: No job &#39;gone&#39;"),
        ("retry", [], "Select the jobs to retry first."),
    ],
)
def test_selected_jobs_are_acted_upon_and_it_is_said(client, shop, action, ids, said):
    answer = post(client, "/jobs/act", action=action, id=ids, sure="yes")

    assert answer.status_code == 303
    assert said in client.get("/jobs").text


def test_deleting_asks_first(client, shop, redis):
    asked = post(client, "/jobs/act", action="delete", id=["paid", "declined"])
    kept = redis.exists(keys.job("paid"))
    post(client, "/jobs/act", action="delete", id=["paid", "declined"], sure="yes")

    assert ("Delete 2 jobs?" in asked.text, kept) == (True, 1)
    assert not redis.exists(keys.job("paid"), keys.job("declined"))


def test_all_that_match_are_counted_and_then_retried(client, plant, redis):
    for number in range(30):
        plant(f"bad{number}", status="failed", error=TRACEBACK, origin=f"q{number % 3}")
    plant("other", status="failed", error="OSError: no line")
    asked = client.get("/jobs/all?q=error:declined&action=retry").text
    answer = post(client, "/jobs/all", q="error:declined", action="retry")

    assert "Retry 30 jobs?" in asked
    assert "jobs.numbers.add</code> 30" in asked
    assert answer.status_code == 303
    assert "Retried 30 jobs." in client.get("/jobs").text
    assert listed(client, "state:failed") == ["other"]


def test_stopped_jobs_are_counted_apart_from_failed_ones(client, shop, redis):
    redis.hset(keys.job("killed"), "status", "stopped")

    assert "Delete 2 jobs?" in client.get("/jobs/all?q=state:stopped,queued&action=delete").text


@pytest.mark.parametrize("path", ["/jobs/act", "/jobs/all"])
def test_nothing_is_done_by_get_without_a_token_or_with_an_unknown_action(
    client, shop, redis, path
):
    client.get(f"{path}?action=delete&q=&id=paid&sure=yes")
    without = client.post(path, data={"action": "delete", "id": "paid", "sure": "yes"})
    unknown = post(client, path, action="explode", id="paid")

    assert (without.status_code, unknown.status_code) == (403, 422)
    assert redis.exists(keys.job("paid"))


def test_an_entry_of_the_schedule_is_not_deleted_as_a_job(client, plant, redis):
    plant("entry", status="finished")
    redis.zadd(keys.ENTRIES, {"entry": 1})
    post(client, "/jobs/act", action="delete", id="entry", sure="yes")

    assert redis.exists(keys.job("entry"))


def test_a_page_takes_at_most_five_round_trips(client, shop, app, redis, monkeypatch):
    client.get("/jobs")
    trips = count_trips(monkeypatch)
    app.extensions["jiffy.census"].forget()
    client.get("/jobs?q=declined")

    assert len(trips) <= 5


@pytest.mark.browser
@pytest.mark.parametrize("has_scripts", [True, False])
def test_in_a_browser_jobs_are_filtered_selected_and_retried(
    chromium, live, client, shop, redis, has_scripts
):
    with logged_in(chromium, live, client, has_scripts) as page:
        page.goto("/jobs")
        page.fill("#filter", "error:declined")
        page.click(".filter button")
        page.wait_for_url("**/jobs?q=*")
        page.check("#job-declined input")
        if has_scripts:
            page.wait_for_selector("text=1 selected")
            page.keyboard.press("r")
        else:
            page.click("button[value=retry]")
        page.wait_for_selector(".done")

        assert page.inner_text(".done") == "Retried 1 job."
        assert page.url == f"{live}/jobs?q=error:declined"
    assert redis.lrange(keys.queue("low"), 0, -1) == [b"next", b"declined"]


@pytest.mark.browser
def test_keys_move_along_the_rows_and_the_box_completes_its_last_word(browser, shop):
    browser.goto("/schedule")
    browser.keyboard.press("/")
    browser.wait_for_url("**/jobs#filter")
    browser.fill("#filter", "worker:w1 sta")
    offered = browser.eval_on_selector_all("#terms option", "all => all.map(one => one.value)")
    browser.evaluate("document.activeElement.blur()")
    browser.wait_for_selector("#job-next")
    for key in "jjkx":
        browser.keyboard.press(key)
    chosen = browser.eval_on_selector_all("tbody input:checked", "all => all.length")
    browser.keyboard.press("?")

    assert "worker:w1 state:failed" in offered
    assert chosen == 1
    assert browser.is_visible("#keys")


@pytest.mark.browser
def test_a_click_selects_no_job_that_a_refresh_has_just_put_there(browser, plant):
    """A page that fits its window cannot scroll, so that the row would stay under the pointer."""
    plant("aimed")
    browser.set_viewport_size({"width": 1280, "height": 1600})
    browser.goto("/jobs")
    browser.hover("#job-aimed input")
    box = browser.locator("#job-aimed [type=checkbox]").bounding_box()
    stop_the_clock(browser)
    plant("newer")
    refresh(browser)
    clicked, is_checked = browser.evaluate(
        """([x, y]) => new Promise((done) => {
        const look = () => {
            const box = document.elementFromPoint(x, y);
            if (box.value !== "newer") return setTimeout(look);
            const click = { bubbles: true, cancelable: true, detail: 1 };
            box.dispatchEvent(new MouseEvent("click", click));
            done([box.value, box.checked]);
        };
        look();
    })""",
        [box["x"] + 5, box["y"] + 5],
    )

    assert (clicked, is_checked) == ("newer", False)


def listed(client, written):
    text = client.get("/jobs", query_string={"q": written}).text
    return re.findall(r'<tr id="job-([^"]+)"', text)


def walk(client, written):
    """How many jobs one sees who follows every link to the next page."""
    seen, path = [], f"/jobs?q={written}"
    while path:
        text = client.get(path).text
        seen += re.findall(r'<tr id="job-([^"]+)"', text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following and following[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen))
    return len(seen)


def count_trips(monkeypatch):
    """A list that grows with every command or pipeline that is sent to Redis."""
    from redis.connection import AbstractConnection

    trips, send = [], AbstractConnection.send_packed_command

    def counted(self, command, *args, **options):
        trips.append(command)
        return send(self, command, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return trips


def ago(seconds):
    return utcformat(clock.now() - timedelta(seconds=seconds))


@pytest.mark.parametrize("matching", ["status:failed", "state:nothing", "state:queued AND fn:x"])
def test_with_a_filter_that_is_not_understood_nothing_is_offered_for_all(client, plant, matching):
    plant("one", status="queued")
    asked = client.get("/jobs/all", query_string={"q": matching, "action": "delete"})

    assert 'id="act"' in client.get("/jobs?q=state:queued").text
    assert 'id="act"' not in client.get("/jobs", query_string={"q": matching}).text
    assert (asked.status_code, "Nothing was done." in asked.text) == (422, True)
    assert "gone for good" not in asked.text


def test_words_of_other_search_languages_are_explained(client, plant):
    plant("one", status="failed", error="boom")
    asked, quoted = (client.get("/jobs", query_string={"q": f"state:failed {word} boom"}).text
                     for word in ("AND", '"AND"'))  # fmt: skip

    assert "AND is no operator: all terms must match, and commas stand between" in asked
    assert ('id="job-one"' in asked, 'id="job-one"' in quoted) == (True, False)
    assert "no operator" not in quoted
