"""In a real browser: pages are live, and no string of a job becomes code."""

import json
from datetime import timedelta

import pytest
from rq.utils import now, utcformat

from jiffy import every, keys, redis_io
from jiffy.control.pauses import pause, resume
from jiffy.dashboard import auth
from jiffy.producer.enqueue import enqueue
from jobs import numbers
from tests.web.conftest import PASSWORD, USER, logged_in

pytestmark = pytest.mark.browser

ATTACK = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    "\"'><svg onload=window.hacked=1><%= window.hacked=1 %><% window.hacked=1 %>{{ 7*7 }}</script>"
)
# No slash: it stands in addresses.
QUEUE = "'+(window.hacked=1)+'\"><img src=x onerror=window.hacked=1><%= hacked=1 %>"


def test_a_job_finishes_on_the_page_without_a_reload(browser, work):
    job = enqueue(numbers.add, 5, 3)
    browser.evaluate("window.same = true")
    browser.wait_for_selector(f"#job-{job.id} .state.queued")
    work()
    browser.wait_for_selector(f"#job-{job.id} .state.finished")

    assert browser.evaluate("window.same")


def test_a_jobs_page_shows_its_progress_and_its_result_as_they_come(browser, plant, redis, work):
    job = enqueue(numbers.add, 5, 3)
    browser.goto(f"/jobs/{job.id}")
    redis.hset(job.key, mapping={
        "status": "started", "started_at": utcformat(now()),
        keys.PROGRESS_FIELD: json.dumps({"fraction": 0.42, "note": "row 8"}),
    })  # fmt: skip
    refresh(browser)
    browser.wait_for_selector("progress[value='0.42']")
    redis.hset(job.key, "status", "queued")
    work()
    refresh(browser)
    browser.wait_for_selector("#result")

    assert browser.inner_text("#result pre") == "8"


@pytest.mark.parametrize("off_s", [-600, 600])
def test_how_long_ago_does_not_depend_on_the_clock_of_the_browsers_machine(
    chromium, live, client, plant, off_s
):
    plant("old", status="queued", enqueued_at=utcformat(now() - timedelta(minutes=5)))
    with logged_in(chromium, live, client) as page:
        page.add_init_script(f"{{ const now = Date.now; Date.now = () => now() + {off_s}000; }}")
        page.goto("/queues/default")
        first = page.inner_text("#job-old .number")
        plant("new", status="queued")
        refresh(page)
        page.wait_for_selector("#job-new")
        later = page.inner_text("#job-old .number")

    assert (first[:2], later[:2]) == ("5m", "5m")


def test_the_keyboards_focus_survives_a_refresh(browser, plant):
    plant("first")
    refresh(browser)
    browser.focus("#job-first a")
    plant("second")
    refresh(browser)
    browser.wait_for_selector("#job-second")

    assert browser.evaluate("document.activeElement.closest('tr').id") == "job-first"


def test_selected_jobs_and_the_focus_survive_a_refresh(browser, plant):
    plant("first")
    plant("second")
    browser.goto("/jobs")
    browser.check("#job-first input")
    plant("third")
    refresh(browser)
    browser.wait_for_selector("#job-third")

    assert browser.is_checked("#job-first input")
    assert browser.evaluate("document.activeElement.value") == "first"


def test_who_comes_back_to_the_list_finds_no_other_job_selected(browser, plant):
    plant("first")
    refresh_until(browser, "#job-first")
    browser.goto("/jobs")
    browser.check("#job-first input")
    browser.click("#job-first a")
    browser.wait_for_selector("#call")
    plant("second")
    browser.go_back()
    refresh_until(browser, "#job-second")

    assert not browser.is_checked("#job-second input")


def test_without_redis_the_page_keeps_its_content_and_says_why(
    browser, plant, environ, redis_address
):
    plant("seen")
    refresh(browser)
    browser.wait_for_selector("#job-seen")
    environ(REDIS_URL="redis://127.0.0.1:1/0")
    redis_io.shared.cache_clear()
    refresh(browser)
    browser.wait_for_selector("#notice:has-text('No Redis at')")
    kept = browser.is_visible("#job-seen")
    environ(REDIS_URL=redis_address)
    redis_io.shared.cache_clear()

    assert kept


def test_a_page_recovers_by_itself(browser, plant):
    browser.route("**/*", lambda route: route.abort())
    browser.wait_for_selector("#notice:has-text('does not answer')")
    browser.unroute("**/*")
    plant("new")
    browser.wait_for_selector("#job-new")

    assert browser.inner_text("#notice") == ""
    assert browser.inner_text("#live") == "live"


@pytest.mark.parametrize("answer", [
    {"status": 200, "content_type": "text/html", "body": "<title>Sign in</title><h1>Sign in</h1>"},
    {"status": 302, "headers": {"Location": "/healthz"}},
])  # fmt: skip
def test_the_login_of_a_proxy_is_not_taken_for_the_page(browser, plant, answer):
    plant("seen")
    refresh_until(browser, "#job-seen")

    def answer_as_the_proxy(route):
        is_live = route.request.headers.get("x-requested-with")
        route.fulfill(**answer) if is_live else route.fulfill(body="<h1>Log in here</h1>")

    browser.route("**/*", answer_as_the_proxy)
    if answer["status"] == 200:
        browser.wait_for_selector("#notice:has-text('Shown as of')")
        assert (browser.inner_text("#live"), browser.title()) == ("stale", "Jiffy")
    else:
        browser.wait_for_selector("h1:has-text('Log in here')")


def test_a_far_search_that_was_refused_is_not_repeated_once_it_was_made(browser, monkeypatch):
    monkeypatch.setattr(auth, "MOST_AT_ONCE", -1)
    browser.goto("/failures?far=1")
    monkeypatch.undo()
    browser.wait_for_selector("#failures")

    assert browser.query_selector("#live") is None


def test_a_hidden_tab_pauses(browser):
    browser.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    refresh(browser)

    assert browser.inner_text("#live") == "paused"


def test_a_lost_session_leads_to_the_login_and_back(browser, live):
    browser.goto("/?from=here")
    browser.context.clear_cookies()
    browser.wait_for_selector("[name=password]")
    browser.fill("[name=user]", USER)
    browser.fill("[name=password]", PASSWORD)
    browser.click("main button")
    browser.wait_for_selector("#recent")

    assert browser.url == f"{live}/?from=here"


def test_logging_out_works(browser):
    browser.click("header button")
    browser.wait_for_selector("[name=password]")

    assert "/login" in browser.url


@pytest.fixture
def attacked(plant, plant_worker):
    """A Redis in which every string attacks the page that shows it."""
    call = [ATTACK, None, [ATTACK], {ATTACK: ATTACK}]
    texts = {"description": ATTACK, "origin": QUEUE, "call": call, "worker_name": ATTACK}
    meta = json.dumps({ATTACK: ATTACK})
    note = json.dumps({"fraction": 0.5, "note": ATTACK})
    plant("failed", status="failed", error=ATTACK, meta=meta, **texts)
    plant("finished", result={ATTACK: ATTACK}, meta=meta, **texts)
    plant("started", status="started", **{keys.PROGRESS_FIELD: note}, **texts)
    plant("odd", status=ATTACK, **texts)
    plant_worker(
        ATTACK,
        state=ATTACK,
        queues=QUEUE,
        runs="started",
        hostname=ATTACK,
        version=ATTACK,
        python_version=ATTACK,
    )


def test_no_string_of_a_job_becomes_code_when_a_page_refreshes(browser, request):
    request.getfixturevalue("attacked")
    refresh(browser)
    browser.wait_for_selector("#job-failed")

    assert is_unharmed(browser)


def test_rq_dashboards_own_buttons_work(browser, plant, redis):
    plant("bad", status="failed", error="boom")
    browser.goto("/rq/0/view/jobs/default/failed/8/asc/1")
    browser.click("text=Requeue All")
    with browser.expect_response("**/rq/requeue/default") as answer:
        browser.click("#confirmation-modal-yes")

    assert answer.value.status == 200
    assert redis.llen(keys.queue("default")) == 1


def test_no_page_breaks_its_own_rules(browser, plant, plant_worker):
    plant("bad", status="failed", error="boom")
    plant_worker("w1")
    said = []
    browser.on(
        "console", lambda message: said.append(message.text) if message.type == "error" else None
    )
    browser.on("pageerror", lambda error: said.append(str(error)))
    for path in [
        "/",
        "/jobs",
        "/jobs/all?q=state:failed&action=retry",
        "/failures",
        "/jobs/bad",
        "/rq/",
        "/rq/0/view/jobs",
        "/rq/0/view/workers",
        "/rq/0/view/job/bad",
    ]:
        browser.goto(path)
        browser.wait_for_load_state("networkidle")

    assert said == []


def refresh(page):
    """As if the two seconds were over; not where the page may be loading anew by itself."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def stop_the_clock(page):
    """For what counts on a page from now on, no time passes."""
    page.evaluate("{ const now = Date.now(); Date.now = () => now; }")


def is_unharmed(page):
    """Nothing ran, and nothing was even made that could have been run."""
    planted = "img[src=x], svg[onload], body script:not([src]):not([nonce]):not([type])"
    return page.evaluate("window.hacked") is None and page.locator(planted).count() == 0


def test_a_button_that_has_the_focus_never_becomes_another(browser, plant, plant_worker, redis):
    """A worker has one button more while it runs a job."""
    plant("x", status="started")
    plant_worker("w1", state="busy", runs="x", **{keys.MEMORY_FIELD: "1"})
    browser.goto("/workers")
    browser.focus("#worker-w1 button:has-text('Quiet')")
    redis.delete(keys.REGISTRIES["started"] + "default", keys.worker("w1") + ":executions")
    redis.hset(keys.worker("w1"), "state", "idle")
    refresh(browser)
    browser.wait_for_selector("#worker-w1 button:has-text('Stop job')", state="detached")

    assert browser.evaluate("document.activeElement.textContent") != "Stop worker"


def test_what_was_unfolded_never_becomes_another(browser, plant):
    """Someone else pauses the queue, so that it cannot be paused once more."""
    plant("waits", status="queued")
    browser.goto("/queues")
    browser.wait_for_selector("#queue-default")
    browser.goto("/queues/default")
    browser.click("summary:has-text('Pause')")
    pause(queue="default", why="broken", who="ann")
    refresh(browser)
    browser.wait_for_selector("#paused-here")

    assert browser.get_attribute("details:has-text('Empty')", "open") is None


def test_of_two_pauses_both_are_shown_after_a_refresh(browser, plant):
    pause(queue="default", why="one", who="ann")
    pause(queue="low", why="two", who="ben")
    shown_with(browser, "#banners p:has-text('two')")
    plant("new")
    refresh(browser)
    browser.wait_for_selector("#job-new")

    assert browser.is_visible("#banners p:has-text('two')")
    assert browser.is_visible("#banners p:has-text('one')")


def test_two_entries_of_one_name_are_both_shown_after_a_refresh(browser, redis, plant, declare):
    """One of the schedule, and one of rq-scheduler's, whose id is the other's name."""
    declare(every("10m", numbers.add, args=[2, 3], name="nightly"))
    plant("nightly", status="scheduled")
    redis.zadd(keys.ENTRIES, {"nightly": 9e9})
    browser.goto("/schedule")
    redis.hset(keys.entry_state("entry-nightly"), "skip", 1)
    refresh(browser)
    browser.wait_for_selector("text=the next run is skipped")

    assert browser.locator("main tbody tr").count() == 2


def test_what_is_typed_survives_what_appears_and_goes_before_it(browser, plant):
    plant("waits", status="queued")
    pause(queue="default", why="broken", who="ann")
    shown_with(browser, "#banners p:has-text('broken')")
    browser.goto("/queues/default")
    browser.click("summary:has-text('Empty')")
    browser.fill("[name=typed]", "default")
    resume(queue="default")
    refresh_until(browser, "#paused-here", state="detached")
    typed = browser.input_value("[name=typed]")
    browser.goto("/queues")
    browser.click("summary:has-text('Pause a function')")
    browser.fill("[name=function]", "jobs.shop.charge")
    pause(function="jobs.numbers.add", why="broken", who="ann")
    refresh_until(browser, "main code:has-text('jobs.numbers.add')")

    assert typed == "default"
    assert browser.input_value("[name=function]:not([type=hidden])") == "jobs.shop.charge"


def shown_with(page, selector):
    """The overview, once it has this."""
    page.goto("/")
    refresh_until(page, selector)


def refresh_until(page, selector, **options):
    refresh(page)
    page.wait_for_selector(selector, **options)


def test_the_newest_lines_of_a_growing_log_are_shown_unless_someone_has_scrolled_up(browser, plant):
    lines = [[1.7e9, "INFO", "jobs", f"line {number}"] for number in range(300)]

    def write(count, status="started"):
        plant("x", status=status, **{keys.LOG_FIELD: json.dumps([0, 0, lines[:count]])})

    def below():
        return browser.evaluate(
            "(log => log.scrollHeight - log.clientHeight - log.scrollTop)"
            "(document.querySelector('.log'))"
        )

    write(100)
    browser.goto("/jobs/x")
    opened = below()
    write(200)
    refresh_until(browser, ".log tr:nth-child(200)")
    grown = below()
    browser.evaluate("document.querySelector('.log').scrollTop = 500")
    write(300)
    refresh_until(browser, ".log tr:nth-child(300)")
    scrolled = browser.evaluate("document.querySelector('.log').scrollTop")
    write(300, "finished")
    browser.goto("/jobs/x")

    assert (opened < 2, grown < 2, scrolled) == (True, True, 500)
    assert browser.evaluate("document.querySelector('.log').scrollTop") == 0


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize(
    "title", ["jobs.a.slow(900, password=***, retry=5)", "W" * 60, "任务" * 30]
)
def test_no_text_leaves_its_box_in_a_workflow(browser, plant, width, title):
    browser.set_viewport_size({"width": width, "height": 800})
    plant("before", description=title)
    plant("x", status="deferred", dependency_ids='["before"]')
    browser.goto("/jobs/x")
    left = browser.evaluate("""[...document.querySelectorAll('.node')].map(node => {
      const box = node.querySelector('rect').getBoundingClientRect();
      return [...node.querySelectorAll('p, text')].every(line => {
        const place = line.getBoundingClientRect();
        return getComputedStyle(line).overflow === 'hidden' && place.width > 100 &&
          place.left >= box.left && place.right <= box.right && place.bottom <= box.bottom;
      });
    })""")

    assert left == [True, True]


def test_no_name_of_a_queue_is_broken_on_the_page_of_workers(browser, plant, plant_worker):
    browser.set_viewport_size({"width": 1200, "height": 800})
    path = "jobs.warehouse.reconciliation.synchronize_inventory"
    plant("x", status="started", timeout="5400", call=[path, None, [], {}])
    more = {keys.MEMORY_FIELD: "1370000000", "successful_job_count": "1234567"}
    plant_worker("ip-10-0-12-34.31234.1", state="busy", runs="x", queues="default,high,low", **more)
    browser.goto("/workers")
    heights = browser.evaluate(
        "[...document.querySelectorAll('.tags a')].map(one => one.getClientRects().length)"
        ".concat([...document.querySelectorAll('.tags a')].map(one => one.offsetHeight < 30))"
    )

    assert heights == [1, 1, 1, True, True, True]


@pytest.mark.usefixtures("browser")
def test_while_redis_is_away_no_page_says_that_it_is_live(browser, no_redis):
    browser.goto("/jobs")
    shown = browser.inner_text("header")

    assert browser.inner_text("#message").startswith("No Redis at")
    assert (browser.inner_text("#live"), "read-only" in shown) == ("stale", False)
