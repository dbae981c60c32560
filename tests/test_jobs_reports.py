"""The report of the queues' last day."""

import csv
import html
import pickle
import zlib
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enqueue import enqueue
from jiffy import keys, progress
from jiffy.producer.enqueue import Queue
from jobs import images, numbers, reports


def ended(redis, job_id, *, hours_ago, state="finished", queue="low", took_s=2, waited_s=1, **more):
    """Leave the traces of a job that is over."""
    end = datetime.now(UTC) - timedelta(hours=hours_ago)
    start = end - timedelta(seconds=took_s)
    times = {
        "enqueued_at": start - timedelta(seconds=waited_s),
        "started_at": start,
        "ended_at": end,
    }
    fields = {name: time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for name, time in times.items()}
    fields |= {"description": "jobs.numbers.add(2, 3)", "origin": queue, "status": state} | more
    redis.sadd(keys.QUEUES, keys.queue(queue))
    redis.zadd(f"{keys.RQ}{state}:{queue}", {job_id: end.timestamp() + 100_000})
    redis.hset(keys.job(job_id), mapping=fields)


def lines_of(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def jobs_files(tmp_path, environ):
    environ(JOBS_FILES=str(tmp_path))


@pytest.fixture
def report(tmp_path, redis):
    """Write a report: `report("csv")` gives its lines, `report("html")` its text."""

    def write(kind):
        path = reports.last_day(str(tmp_path / f"day.{kind}"), connection=redis)
        return lines_of(path) if kind == "csv" else Path(path).read_text(encoding="utf-8")

    return write


def test_jobs_that_really_ran_are_told(tmp_path, work):
    enqueue.options(queue="high")(numbers.add, 2, 3)
    enqueue(images.resize, str(tmp_path / "nowhere.jpg"), 200)
    work()
    job = enqueue(reports.last_day, str(tmp_path / "day.html"))
    work()
    text = html.unescape(Path(job.return_value()).read_text(encoding="utf-8"))

    assert "1 finished, 1 failed" in text
    assert f"No such file or directory: '{tmp_path / 'nowhere.jpg'}'" in text


def test_each_function_on_each_queue_has_a_line(redis, report):
    for number, took_s in enumerate((1, 2, 9)):
        ended(redis, f"a{number}", hours_ago=number, took_s=took_s, waited_s=took_s / 2)
    ended(redis, "b", hours_ago=1, state="failed", queue="high", description="jobs.mail.send('x')")

    assert report("csv") == [
        {
            "queue": "high", "function": "jobs.mail.send", "finished": "0", "failed": "1",
            "median_run_s": "2.0", "longest_run_s": "2.0", "median_wait_s": "1.0",
        },
        {
            "queue": "low", "function": "jobs.numbers.add", "finished": "3", "failed": "0",
            "median_run_s": "2.0", "longest_run_s": "9.0", "median_wait_s": "1.0",
        },
    ]  # fmt: skip


def test_only_the_last_day_counts(redis, report):
    ended(redis, "in", hours_ago=23.9)
    ended(redis, "out", hours_ago=24.1)

    assert [line["finished"] for line in report("csv")] == ["1"]


def test_jobs_are_counted_by_the_hour_they_ended_in(redis):
    for job_id, hours_ago in {"a": 0.5, "b": 0.6, "c": 23.5}.items():
        ended(redis, job_id, hours_ago=hours_ago)
    ended(redis, "d", hours_ago=1.5, state="failed")
    hours = reports.Day(redis, datetime.now(UTC)).hours

    assert [hour["finished"] for hour in hours] == [1] + [0] * 22 + [2]
    assert [hour["failed"] for hour in hours] == [0] * 22 + [1, 0]


def test_more_jobs_than_fit_into_a_chunk_are_each_counted_once(redis, report):
    for number in range(801):
        ended(redis, f"job-{number}", hours_ago=1)

    assert [line["finished"] for line in report("csv")] == ["801"]


def test_what_waits_is_counted(report):
    enqueue(numbers.add, 2, 3)

    assert "waiting now: 1." in report("html")


def test_a_job_with_a_description_of_its_own_is_known_by_its_data(report, work):
    enqueue.options(description="Add up")(numbers.add, 2, 3)
    work()

    assert report("csv")[0]["function"] == "jobs.numbers.add"


class Trap:
    """What runs code when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_nothing_is_unpickled(redis, report):
    trap = zlib.compress(pickle.dumps(Trap()))
    ended(redis, "a", hours_ago=1, description="its own", data=trap, meta=trap, result=trap)
    lines = report("csv")

    assert (lines[0]["function"], Trap.sprung) == ("(unknown)", False)


@pytest.mark.parametrize(
    "broken",
    [
        {"ended_at": "yesterday"}, {"ended_at": ""}, {"started_at": ""}, {"description": b"\xff"},
        {"data": b"\xff", "description": ""}, {"data": zlib.compress(b"\x00" * 10_000_000)},
    ],
)  # fmt: skip
def test_a_broken_job_stops_no_report(redis, report, broken):
    ended(redis, "broken", hours_ago=1, **broken)
    ended(redis, "good", hours_ago=1, queue="high")

    assert report("csv")[0]["queue"] == "high"


def test_a_job_that_is_gone_meanwhile_is_passed_over(redis, report):
    ended(redis, "a", hours_ago=1)
    redis.delete(keys.job("a"))

    assert report("csv") == []
    assert "None." in report("html")


def test_the_latest_failures_come_first_and_are_limited(redis):
    for number in range(reports.MOST_FAILURES + 5):
        ended(redis, f"job-{number}", hours_ago=number / 10, state="failed")
    failures = [row[1] for row in reports.Day(redis, datetime.now(UTC)).failures]

    assert failures == [f"job-{number}" for number in range(reports.MOST_FAILURES)]


def test_whatever_a_job_says_is_shown_as_text(redis, report):
    bad = "<script>alert(1)</script>"
    ended(redis, bad, hours_ago=1, state="failed", queue=bad)
    redis.xadd(keys.results(bad), rq_failure(f"Traceback\nValueError: {bad}"))
    text = report("html")

    assert "<script" not in text
    assert f"ValueError: {bad}" in html.unescape(text)


def rq_failure(traceback):
    return {"exc_string": b64encode(zlib.compress(traceback.encode())), "type": "2"}


def test_a_spreadsheet_runs_nothing(redis, report):
    ended(redis, "a", hours_ago=1, queue='=HYPERLINK("http://example.com")')

    assert report("csv")[0]["queue"].startswith("'=")


def test_the_picture_shows_an_hour_with_its_counts(redis, report):
    ended(redis, "a", hours_ago=0.5)
    ended(redis, "b", hours_ago=0.5, state="failed")

    assert "1 finished, 1 failed</title>" in report("html")


def test_the_report_is_replaced_in_one_step(redis, report, tmp_path, monkeypatch):
    report("csv")
    before = (tmp_path / "day.csv").read_text()
    monkeypatch.setitem(reports.WRITERS, ".csv", lambda day: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report("csv")

    assert (tmp_path / "day.csv").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["day.csv"]


def test_another_suffix_is_refused_with_those_that_are_known(redis, tmp_path):
    with pytest.raises(ValueError, match=r"day\.pdf'; it must end in \.html or \.csv"):
        reports.last_day(str(tmp_path / "day.pdf"), connection=redis)


def test_a_folder_that_is_not_there_is_named(redis, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*day\.csv'"):
        reports.last_day(str(tmp_path / "nowhere" / "day.csv"), connection=redis)


def test_called_directly_it_asks_for_a_connection(tmp_path):
    with pytest.raises(ValueError, match="connection is not given"):
        reports.last_day(str(tmp_path / "day.csv"))

    assert list(tmp_path.iterdir()) == []


def test_it_tells_its_progress(redis, tmp_path, work):
    ended(redis, "a", hours_ago=1)
    job = Queue("default", connection=redis).enqueue(reports.last_day, str(tmp_path / "day.csv"))
    work()

    assert progress.read(job).note == "0 of 1"
