"""Pictures of every page, for people to look at, in `build/screens`.

What they show is not compared with anything.  No page is wider than the screen, and axe finds no
fault in any: https://github.com/dequelabs/axe-core.
"""

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from rq.utils import utcformat

from jiffy import clock, cron, every, history, keys, tracebacks
from jobs import numbers

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(360)]

FOLDER = Path(__file__).parents[2] / "build/screens"
TRACEBACK = """Traceback (most recent call last):
  File "/app/jiffy/worker/run.py", line 88, in run
    value = function(*args, **kwargs)
  File "/app/jobs/shop.py", line 41, in charge
    answer = stripe.Charge.create(amount=order.total, token=token)
  File "/usr/lib/python3.11/site-packages/stripe/api.py", line 212, in create
    raise CardError(f"{reason}: {code}")
stripe.error.CardError: Your card was declined: insufficient_funds"""
PAGES = {
    "overview": "/",
    "queues": "/queues",
    "queue": "/queues/default",
    "schedule": "/schedule",
    "entry": "/schedule/sync",
    "jobs": "/jobs",
    "jobs-failed": "/jobs?q=state:failed+error:declined",
    "failures": "/failures",
    "failure": f"/failures/{tracebacks.Group.of(TRACEBACK).key}",
    "retry-all": "/jobs/all?q=state:failed&action=retry",
    "workers": "/workers",
    "new": "/new",
    "new-job": "/new?function=jobs.images.resize",
    "new-refused": "/new?job=charge-3",
    "system": "/system",
    "job-failed": "/jobs/charge-3",
    "job-running": "/jobs/report-0",
    "job-waiting": "/jobs/mail-2",
    "job-finished": "/jobs/charge-35",
    "job-lost": "/jobs/lost",
}
KEPT = [f"jiffy.{name}" for name in ("census", "flows", "done", "releases", "memory")]
SIZES = [(1280, "light"), (768, "dark"), (390, "light"), (360, "dark")]


@pytest.fixture
def empty():
    """Nothing at all."""


@pytest.fixture
def busy(plant, plant_worker, leader, redis, declare, plant_flow):
    """A healthy shop in the middle of the day."""
    waiting = [int(60 + 50 * math.sin(look / 5)) for look in range(30)] + [40]
    ended = [250 + look * 37 % 90 for look in range(31)]
    reports = [(0, look % 7 == 0) for look in range(31)]
    plant_flow({"default": list(zip(waiting, ended, strict=True)), "reports": reports,
                "low": [(min(1, look // 8), 0) for look in range(31)]})  # fmt: skip
    for number in range(40):
        plant(
            f"mail-{number}",
            status="queued",
            call=["jobs.mail.send", None, [number], {}],
            enqueued_at=ago(90 - number),
            description=f"jobs.mail.send({number})",
        )
    for number in range(3):
        progress = json.dumps(
            {"fraction": 0.2 + number / 4, "note": f"row {number * 210:,} of 800"}
        )
        plant(
            f"report-{number}",
            status="started",
            origin="reports",
            description="weekly report",
            call=["jobs.reports.weekly", None, [], {"team": f"team {number}"}],
            started_at=ago(40 + number),
            enqueued_at=ago(60),
            worker_name=f"w{number}",
            **{keys.PROGRESS_FIELD: progress},
        )
        plant_worker(
            f"w{number}",
            state="busy",
            runs=f"report-{number}",
            hostname="worker.1",
            queues="default,reports",
            pid=10 + number,
            successful_job_count=1234,
            failed_job_count=number * 3,
            total_working_time=2.5e8,
            **{
                keys.RELEASE_FIELD: "4f2a91c07d" * 4,
                "jiffy:dyno": f"worker.{number}",
                "jiffy:memory": (61 + 17 * number) << 20,
                "jiffy:quiet": "yes" if number == 2 else "",
            },
        )
    for number in range(60):
        done = {"started_at": ago(100 + number), "ended_at": ago(99 + number)}
        plant(
            f"charge-{number}",
            call=["jobs.shop.charge", None, [number], {"order_id": 1000 + number}],
            description=f"jobs.shop.charge({number}, order_id={1000 + number})",
            enqueued_at=ago(130 + number),
            worker_name="w1",
            result={"paid": True},
            **done,
        )
    declare(
        cron(
            "0 6 * * mon", numbers.add, args=[1, 2], name="weekly-report", timezone="Europe/Paris"
        ),
        cron("*/15 * * * *", numbers.add, args=[3, 4], name="sync"),
        every("10m", numbers.add, args=[5, 6], name="heartbeat"),
    )
    for number in range(12, 0, -1):
        outcome = "failed" if number == 4 else "finished"
        slot = int(clock.wall()) // 900 * 900 - number * 900
        redis.lpush(keys.ticks("entry-sync"), f"t|{slot}|{number * 300}|{outcome}|{900 + number}|")
    an_hour_of_attempts(redis)
    for release, minutes in (("4f2a91c07d" * 4, 12), ("b81c55e01f" * 4, 300)):
        redis.zadd(keys.history("releases"), {release: clock.wall() - 60 * minutes})
    plant("later", status="scheduled", call=["jobs.mail.digest", None, [], {}])
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {"later": clock.wall() + 3600})


@pytest.fixture
def failing(busy, plant, redis):
    """The same during an incident."""
    for number in range(30):
        plant(
            f"charge-{number}",
            status="failed",
            error=TRACEBACK,
            call=["jobs.shop.charge", None, [number], {"order_id": 1000 + number, "token": "x"}],
            started_at=ago(20 + number * 7),
            ended_at=ago(19 + number * 7),
            worker_name="w1",
            description=f"jobs.shop.charge({number}, order_id={1000 + number})",
            **{keys.RELEASE_FIELD: "3b0c66d5"},
        )
    for number in range(5):
        error = TRACEBACK.replace("stripe.error.CardError: Your card was declined", "OSError")
        plant(
            f"sync-{number}",
            status="failed",
            error=error.replace("shop", "sync"),
            call=["jobs.sync.pull", None, [f"https://shop.example/feeds/{number}"], {}],
            started_at=ago(900),
            ended_at=ago(880),
            description="nightly sync",
            **{keys.RELEASE_FIELD: "4f2a91c07d" * 4},
        )
    for minutes in range(12):
        key = keys.history(f"now:{redis.time()[0] // 60 - minutes}")
        redis.hincrby(key, "failed 9 12 jobs.shop.charge\ndefault", 25 - 2 * minutes)
    redis.hset(
        keys.PAUSED,
        "queue:reports",
        json.dumps({"who": "ada", "why": "the disk is full", "since": clock.wall(), "until": None}),
    )
    plant("lost", status="queued", origin="low", enqueued_at=ago(4000))


# The browser drops connections of the server that runs in this process.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(("width", "theme"), SIZES)
@pytest.mark.parametrize("state", ["empty", "busy", "failing"])
def test_every_page_fits_its_screen_and_is_accessible(request, browser, app, state, width, theme):
    request.getfixturevalue(state)
    for name in [name for name in app.extensions if name in KEPT]:
        app.extensions[name].forget()
    FOLDER.mkdir(parents=True, exist_ok=True)
    browser.set_viewport_size({"width": width, "height": 800})
    browser.emulate_media(color_scheme=theme)
    faults = []
    for name, path in PAGES.items():
        if browser.goto(path).status == 404:
            continue
        browser.screenshot(path=FOLDER / f"{name}-{state}-{width}-{theme}.png", full_page=True)
        if browser.evaluate("document.documentElement.scrollWidth") > width:
            faults.append((name, "wider than its screen"))
        ends = "all => all.map(one => [one.textContent, one.getBoundingClientRect().right])"
        links = browser.eval_on_selector_all("header a, .tabs a", ends)
        faults += [(name, "cut off", link) for link, end in links if end > width]
        for found in Axe().run(browser).response["violations"]:
            faults += [(name, found["id"], node["html"]) for node in found["nodes"]]

    assert faults == []


def an_hour_of_attempts(redis):
    for minutes in range(60):
        for name, queue, group, times in (
            ("jobs.shop.charge", "default", "done 9 12", 40 + minutes * 7 % 23),
            ("jobs.mail.send", "default", "done 12 10", 90 + minutes * 11 % 31),
            ("jobs.reports.weekly", "reports", "done 14 17", minutes % 3),
        ):
            key = keys.history(f"now:{redis.time()[0] // 60 - minutes}")
            redis.hincrby(key, f"{group} {name}\n{queue}", times)
            redis.hincrby(key, f"ran_ms - - {name}\n{queue}", times * int(group[-2:]) ** 2)
    for minutes in range(60, 0, -1):
        history._pack_minute(redis, redis.time()[0] // 60 - minutes)


def ago(seconds):
    return utcformat(clock.now() - timedelta(seconds=seconds))
