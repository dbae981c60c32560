"""Who hears of missed runs and of jobs that have ended, how often, and what stays secret."""

import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from jiffy import at, keys
from jiffy.control.entries import run_of
from jiffy.errors import InvalidSchedule
from jiffy.producer.enqueue import Job
from jiffy.scheduler import notify
from jiffy.scheduler.entry import read
from jiffy.scheduler.loop import Loop
from jiffy.scheduler.notify import MOST_WAITING, Notifier
from jobs import mail, numbers
from tests.support import schedules
from tests.support.newcomer import wait_until
from tests.support.receiver import receiving
from tests.support.weekly import WEEK, add, slot

ENTRY = "entry-jobs-numbers-add"
SECRET = "5d5b1b1e-0000-4c9e-9d9c-000000000000"


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


@pytest.fixture
def impatient(monkeypatch):
    """What fails is tried again at once."""
    monkeypatch.setattr(notify, "_PAUSES_S", (0, 0))


@pytest.fixture
def lead(redis):
    """Put a schedule in force and lead: `lead(every(…))`; returns the loop, which notifies."""

    def begin(*lines, now=None):
        schedule = schedules.declare(redis, *lines, now=now)
        schedule.notifier.start()
        return Loop(schedule, redis)

    return begin


def look(loop):
    loop._look_at = 0.0
    loop.look()


def none_ran_for(loop, redis, weeks):
    """As if no scheduler had; returns the first slot that was missed."""
    loop._schedule = schedules.set_back(redis, loop._schedule, ENTRY, slot(weeks))
    return slot(weeks)


def iso(seconds):
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def until_heard(receiver, count=1):
    wait_until(lambda: len(receiver.heard) >= count)


# Missed runs


@pytest.mark.parametrize("missed", ["once", "all"])
def test_an_address_is_reported_once_of_all_that_was_missed_together(lead, redis, receiver, missed):
    """Counted in slots, whether or not each became a job."""
    loop = lead(add(missed=missed, overlap="allow", on_missed=f"{receiver.address}/hook"))
    first = none_ran_for(loop, redis, 6)
    look(loop)
    look(loop)
    until_heard(receiver)
    [(method, path, body)] = receiver.heard

    assert (method, path) == ("POST", "/hook")
    assert body.pop("late_s") > 6 * WEEK.total_seconds()
    assert body == {
        "entry": "jobs.numbers.add", "slot": iso(first), "slots": 7, "reason": "no scheduler ran",
    }  # fmt: skip


def test_a_function_is_enqueued_with_the_name_the_slot_and_the_reason(lead, redis):
    loop = lead(add(on_missed=mail.send))
    first = none_ran_for(loop, redis, 1)
    look(loop)
    job_id = f"jobs-numbers-add-{datetime.fromtimestamp(first, UTC):%Y%m%dT%H%M%SZ}-missed"
    wait_until(lambda: redis.exists(keys.job(job_id)))
    job = Job.fetch(job_id, redis)

    assert job.func_name == "jobs.mail.send"
    assert job.args == ["jobs.numbers.add", iso(first), "no scheduler ran"]


def test_two_schedulers_that_both_tell_enqueue_a_function_once(lead, redis, impatient, caplog):
    slot = datetime(2026, 1, 1, tzinfo=UTC)
    loops = [lead(add(on_missed=mail.send)) for _ in range(2)]
    for loop in loops:
        [entry] = loop._schedule.entries.values()
        loop._schedule.notifier.report(entry, slot, slot, "no scheduler ran")
    for loop in loops:
        wait_until(lambda loop=loop: is_idle(loop))

    assert "alert.failed" not in caplog.text
    assert redis.lrange(keys.queue("default"), 0, -1) == [
        b"jobs-numbers-add-20260101T000000Z-missed"
    ]


def test_an_entry_declared_after_its_only_time_is_reported_once(lead, receiver):
    line = at(datetime(2026, 1, 1, tzinfo=UTC), numbers.add, args=[2, 3],
              on_missed=receiver.address)  # fmt: skip
    lead(line)
    until_heard(receiver)
    again = lead(line)
    wait_until(lambda: is_idle(again))

    assert [body["reason"] for _, _, body in receiver.heard] == ["it was added after its time"]


def test_a_broken_entry_is_reported_once_to_its_receiver(lead, redis, receiver):
    loop = lead(add(on_missed=receiver.address))
    none_ran_for(loop, redis, 1)
    redis.set(keys.queue("default"), "nonsense")
    look(loop)
    look(loop)
    until_heard(receiver)

    assert [body["reason"].partition(":")[0] for _, _, body in receiver.heard] == ["broken"]


def test_a_skipped_run_or_one_that_is_a_little_late_is_not_reported(lead, redis, receiver):
    loop = lead(add(on_missed=receiver.address))
    for _ in range(2):
        due = datetime.fromtimestamp(loop._schedule.next_due, UTC)
        made = loop._schedule.enqueue_due(due + timedelta(seconds=5))
        loop._schedule.notifier.missed(made, due)
    wait_until(lambda: is_idle(loop))

    assert redis.hgetall(keys.TICK_COUNTS) == {b"enqueued": b"1", b"skipped": b"1"}
    assert receiver.heard == []


# Pings


@pytest.mark.parametrize(
    ("status", "paths"),
    [
        ("finished", ["/ping/x?a=1"]), ("failed", ["/ping/x/fail?a=1"]), ("canceled", []),
        ("started", []), ("queued", []), (None, []),
    ],
)  # fmt: skip
def test_a_ping_reports_that_a_job_finished_or_failed(lead, redis, receiver, status, paths):
    loop = lead(add(ping=f"{receiver.address}/ping/x?a=1"))
    end_a_run(loop, redis, status)
    wait_until(lambda: is_idle(loop))

    assert receiver.heard == [("GET", path, None) for path in paths]


@pytest.mark.parametrize("option", ["result_ttl", "failure_ttl"])
def test_where_a_ping_could_come_too_late_to_see_how_a_job_went_it_is_refused(option):
    address = "https://example.com/"
    with pytest.raises(InvalidSchedule, match=f"{option} is 119; it must be 2m or more beside a"):
        read([add(ping=address, **{option: "119s"})])

    for kept in ("2m", -1, None):
        read([add(ping=address, **{option: kept})])


def test_ends_that_pile_up_are_followed_up_at_once_and_none_keeps_a_run_waiting(lead, redis):
    loop = lead(add())
    redis.zadd(keys.OPEN_TICKS, {f"{ENTRY} gone-{n} t|{n}|0|||": 1 for n in range(1001)})
    look(loop)
    assert loop._look_at == 0.0
    none_ran_for(loop, redis, 0)
    loop.look()
    assert redis.llen(keys.queue("default")) == 1
    loop.look()

    assert redis.zcard(keys.OPEN_TICKS) == 1  # that of the run


def test_two_schedulers_ping_once(lead, redis, receiver):
    loops = [lead(add(ping=receiver.address)) for _ in range(2)]
    end_a_run(loops[0], redis, "finished")
    for loop in loops:
        look(loop)
    until_heard(receiver)
    for loop in loops:
        wait_until(lambda loop=loop: is_idle(loop))

    assert len(receiver.heard) == 1


def test_the_last_ping_is_that_of_the_last_run(lead, receiver):
    loop = lead(add(ping=receiver.address))
    [entry] = loop._schedule.entries.values()
    lines = ("t|1763601000|3|finished|1500|", "t|1763600400|3|failed|1500|")
    loop._schedule.notifier.ended((entry, run_of(ENTRY, line)) for line in lines)
    until_heard(receiver, 2)

    assert [path for _, path, _ in receiver.heard] == ["/fail", "/"]


def end_a_run(loop, redis, status):
    """Let a run come, and its job end like that, None: go; and let the scheduler look."""
    none_ran_for(loop, redis, 0)
    look(loop)
    [job_id] = redis.lrange(keys.queue("default"), 0, -1)
    redis.delete(keys.queue("default"))
    if status:
        redis.hset(keys.job(job_id.decode()), "status", status)
    else:
        redis.delete(keys.job(job_id.decode()))
    [member] = redis.zrange(keys.OPEN_TICKS, 0, -1)
    redis.zadd(keys.OPEN_TICKS, {member: 1})
    loop._follow_up_at = 0.0
    look(loop)


# Delivery


def is_idle(loop):
    """Whether all that it was to send is sent, or given up."""
    return is_done(loop._schedule.notifier)


def is_done(one):
    return not one._turns.unfinished_tasks


def test_what_a_receiver_refuses_is_sent_again(lead, redis, receiver, impatient):
    receiver.statuses = [500, 503]
    loop = lead(add(on_missed=receiver.address))
    none_ran_for(loop, redis, 1)
    look(loop)
    until_heard(receiver, 3)
    wait_until(lambda: is_idle(loop))

    assert len(receiver.heard) == 3


def test_a_receiver_that_is_away_is_logged_once_and_its_address_never(
    lead, redis, impatient, caplog
):
    loop = lead(add(overlap="allow", on_missed=f"http://127.0.0.1:1/{SECRET}"))
    for _ in range(3):
        none_ran_for(loop, redis, 1)
        look(loop)
    wait_until(lambda: is_idle(loop))
    failed = [line for line in caplog.messages if line.startswith("alert.")]

    assert failed == [
        "alert.failed entry=jobs.numbers.add to=http://127.0.0.1:1/*** reason='connection refused'"
    ]
    assert SECRET not in caplog.text


def test_no_receiver_can_send_an_alert_into_a_private_network(
    lead, redis, receiver, impatient, caplog
):
    with receiving() as private:
        receiver.statuses = [private.address.replace("127.0.0.1", "localhost")] * 3
        loop = lead(add(on_missed=receiver.address))
        none_ran_for(loop, redis, 1)
        look(loop)
        until_heard(receiver, 3)
        wait_until(lambda: is_idle(loop))

    assert private.heard == []
    assert "localhost is 127.0.0.1, which is not a public address." in caplog.text


def notifier():
    return Notifier(read([add(ping="https://example.com/")]))


def test_a_receiver_that_keeps_one_waiting_keeps_no_run_and_no_other_entry_waiting():
    never, heard, others = threading.Event(), [], range(40)
    one = notifier()
    one.start()
    for _ in range(MOST_WAITING + 10):
        one.put("entry", "a thread", never.wait)
    for number in others:
        one.put(f"entry {number}", "another thread", partial(heard.append, number))
    wait_until(lambda: len(heard) == len(others))
    never.set()

    wait_until(lambda: is_done(one))


def test_reports_of_an_entry_arrive_in_order(impatient):
    one, heard, fails = notifier(), [], [OSError(), OSError()]

    def hear(number):
        if number == 0 and fails:
            raise fails.pop()
        heard.append(number)

    for number in range(50):
        one.put("entry", "a thread", partial(hear, number))
    one.start()
    wait_until(lambda: is_done(one))

    assert heard == list(range(50))


def test_more_than_can_wait_is_dropped_and_that_is_logged_once(caplog):
    one = notifier()  # which sends nothing before it is started
    for _ in range(MOST_WAITING + 10):
        one.put("entry", "a thread", lambda: None)

    assert caplog.messages == ["alert.dropped entry=entry waiting=250"]


# Secrets


def test_an_address_is_nowhere_in_redis_and_shown_without_its_path(lead, redis, receiver):
    hook, ping = f"{receiver.address}/{SECRET}", f"https://hc-ping.com/{SECRET}"
    line = add(on_missed=hook, ping=ping)
    loop = lead(line)
    none_ran_for(loop, redis, 0)
    look(loop)
    wait_until(lambda: is_idle(loop))  # its thread is not to speak in the next test
    stored = [redis.dump(key) for key in redis.scan_iter()]

    assert not any(SECRET.encode() in value for value in stored)
    assert SECRET not in repr(loop._schedule.entries)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ping": "hc-ping.com/5d5b"}, "ping is '***'; it must be a URL, such as https://"),
        ({"ping": "file:///etc/passwd"}, "ping is '***'; it must be a URL"),
        ({"ping": "https://me:word@example.com/"}, "ping is '***'; it must be a URL"),
        ({"ping": "https://example.com/a b"}, "ping is '***'; it must be a URL"),
        ({"ping": "https://example.com:x/"}, "ping is '***'; it must be a URL"),
        ({"ping": numbers.add}, "ping is <function add"),
        ({"on_missed": "ftp://example.com"}, "on_missed is '***'; it must be a function, or a"),
        ({"on_missed": numbers.add},
         "on_missed is called with the entry's name, the slot and the reason: add() takes 2"),
        ({"on_missed": print}, "'builtins.print' is not under jobs"),
    ],
)  # fmt: skip
def test_a_receiver_that_cannot_be_reached_is_refused_before_anything_starts(wrong, said):
    with pytest.raises(InvalidSchedule) as refused:
        read([add(**wrong)])

    assert said in str(refused.value)
