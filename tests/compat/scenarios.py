"""Each kind of job and of outcome: what a program enqueues, and when a worker runs.

A public function here is a scenario.  It is played with RQ's worker and with ours, and what each
leaves in Redis is compared.
"""

import datetime
import functools
import http.server
import re
import threading

import rq
from rq.group import Group
from rq.job import Dependency
from rq.suspension import suspend

from jiffy import keys
from tests.compat import work

_A_MINUTE = datetime.timedelta(minutes=1)
_LIMIT = rq.RateLimit("mail", 1)


def needs_a_child(scenario):
    """Mark a scenario that no worker can play which runs jobs in its own process."""
    scenario.needs_a_child = True
    return scenario


# Outcomes


def finished(stage):
    stage.enqueue(work.add, 2, 3)
    stage.work()


def finished_and_forgotten_at_once(stage):
    stage.enqueue(work.add, 2, 3, result_ttl=0)
    stage.work()


def finished_and_kept_for_ever(stage):
    stage.enqueue(work.add, 2, 3, result_ttl=-1)
    stage.work()


def finished_and_kept_for_a_minute(stage):
    stage.enqueue(work.add, 2, 3, result_ttl=60)
    stage.work()


def finished_with_the_workers_result_ttl(stage):
    stage.enqueue(work.add, 2, 3)
    stage.work(default_result_ttl=90)


def finished_without_a_result(stage):
    stage.enqueue(work.note, "here")
    stage.work()


def several_on_two_queues(stage):
    for number in range(3):
        stage.queue("default").enqueue(work.note, f"default {number}", job_id=f"default-{number}")
        stage.queue("high").enqueue(work.note, f"high {number}", job_id=f"high-{number}")
    stage.work()


def several_on_one_queue(stage):
    for number in range(3):
        stage.enqueue(work.note, f"{number}", job_id=f"job-{number}")
    stage.work(queues=["default"])


def failed(stage):
    stage.enqueue(work.fail)
    stage.work()


def failed_and_kept_for_a_minute(stage):
    stage.enqueue(work.fail, failure_ttl=60)
    stage.work()


def failed_with_text_of_all_kinds(stage):
    stage.enqueue(work.fail, "naïve ☃ \x00 <b>")
    stage.work()


def failed_by_leaving(stage):
    stage.enqueue(work.leave, 3)
    stage.work()


def failed_for_want_of_its_function(stage):
    stage.enqueue("tests.compat.work.no_such_function", 1)
    stage.work()


def failed_for_want_of_its_module(stage):
    stage.enqueue("tests.compat.no_such_module.function", 1)
    stage.work()


def failed_by_wrong_arguments(stage):
    stage.enqueue(work.add, 1)
    stage.work()


def failed_past_two_exception_handlers(stage):
    stage.enqueue(work.fail)
    stage.work(handlers=["tests.compat.work.handler", "tests.compat.work.last_handler"])


def failed_past_a_handler_that_ends_the_line(stage):
    stage.enqueue(work.fail)
    stage.work(handlers=["tests.compat.work.last_handler", "tests.compat.work.handler"])


def failed_without_the_default_handler(stage):
    stage.enqueue(work.fail)
    stage.work(handlers=["tests.compat.work.handler"], disable_default_exception_handler=True)


def requeued_while_its_failure_is_still_kept(stage):
    job = stage.enqueue(work.fail_once_then_look_around, failure_ttl=60)
    stage.work()
    job.requeue()
    stage.work()


def failed_then_requeued_by_hand(stage):
    job = stage.enqueue(work.fail)
    stage.work()
    job.requeue()
    stage.work()


def ten_results_are_kept(stage):
    for _ in range(12):
        stage.enqueue(work.add, 1, 1)
    stage.work()


def over_its_time_limit(stage):
    stage.enqueue(work.wait_for_ever, job_timeout=1)
    stage.work()


@needs_a_child
def stopped_by_command(stage):
    job = stage.enqueue(work.wait_for_ever)
    stage.begin()
    stage.retire_when_begun(job)


@needs_a_child
def stopped_by_command_with_its_callback(stage):
    job = stage.enqueue(work.wait_for_ever, on_stopped=rq.Callback(work.on_stopped))
    stage.begin()
    stage.retire_when_begun(job)


@needs_a_child
def stopped_by_command_although_it_has_retries(stage):
    job = stage.enqueue(work.wait_for_ever, retry=rq.Retry(max=2))
    stage.begin()
    stage.retire_when_begun(job)


@needs_a_child
def stopped_by_command_for_one_execution(stage):
    job = stage.enqueue(work.wait_for_ever)
    stage.begin()
    stage.retire_when_begun(job, execution=True)


def abandoned_by_a_worker_that_is_gone(stage):
    _abandon(stage, stage.enqueue(work.add, 2, 3))
    stage.work()


def abandoned_with_retries_left(stage):
    _abandon(stage, stage.enqueue(work.add, 2, 3, retry=rq.Retry(max=2)))
    stage.work()


def abandoned_with_a_dependent_a_held_job_and_a_callback(stage):
    options = {"rate_limit": _LIMIT, "on_failure": rq.Callback(work.on_failure)}
    job = stage.enqueue(work.add, 2, 3, **options)
    allowed = Dependency(jobs=[job], allow_failure=True)
    stage.enqueue(work.note, "after", job_id="two", depends_on=allowed)
    stage.enqueue(work.note, "held", job_id="three", rate_limit=_LIMIT)
    _abandon(stage, job)
    stage.work()


def _abandon(stage, job):
    """Leave a job as a worker of RQ's leaves it when its machine vanishes."""
    queue = stage.queue()
    worker = rq.SimpleWorker([queue], connection=stage.redis, name="gone", serializer="json")
    queue.pop_job_id()
    execution = worker.prepare_execution(job)
    worker.prepare_job_execution(job)
    stage.redis.zadd(queue.started_job_registry.key, {execution.composite_key: 1})
    for key in (
        execution.key,
        f"{keys.RQ}executions:{job.id}",
        *stage.redis.keys(f"{keys.RQ}worker*"),
    ):
        stage.redis.delete(key)  # their time is over


def returned_what_cannot_be_sent(stage):
    stage.enqueue(work.return_what_cannot_be_sent)
    stage.work()


# Again


def retried_at_once(stage):
    stage.enqueue(work.fail_until_the_last_try, retry=rq.Retry(max=2))
    stage.work()


def retried_at_the_front(stage):
    stage.enqueue(work.fail_until_the_last_try, retry=rq.Retry(max=1, enqueue_at_front=True))
    stage.enqueue(work.note, "second", job_id="two")
    stage.work(max_jobs=1)


def retried_later(stage):
    stage.enqueue(work.fail, retry=rq.Retry(max=3, interval=[30, 90, 600]))
    stage.work()


def retried_later_for_the_second_time(stage):
    job = stage.enqueue(work.fail, retry=rq.Retry(max=3, interval=[30, 90, 600]))
    stage.redis.hset(job.key, "retries_left", 2)
    stage.work()


def retried_later_with_more_tries_than_intervals(stage):
    stage.enqueue(work.fail, retry=rq.Retry(max=3, interval=[30, 90]))
    stage.work()


def retried_until_no_try_is_left(stage):
    stage.enqueue(work.fail, retry=rq.Retry(max=2))
    stage.work()


def asked_for_a_retry(stage):
    stage.enqueue(work.ask_for_a_retry, 2, serializer="pickle")
    stage.work(serializer="pickle", max_jobs=1)


def asked_for_a_retry_later(stage):
    stage.enqueue(work.ask_for_a_retry, 2, 60, serializer="pickle")
    stage.work(serializer="pickle")


def asked_for_a_retry_at_the_front(stage):
    stage.enqueue(work.ask_for_a_retry, 2, 0, True, serializer="pickle")
    stage.enqueue(work.note, "second", job_id="two", serializer="pickle")
    stage.work(serializer="pickle", max_jobs=1)


def asked_for_one_retry_too_many(stage):
    stage.enqueue(work.ask_for_a_retry, 2, serializer="pickle")
    stage.work(serializer="pickle")


def repeated_at_once(stage):
    stage.enqueue(work.note, "again", repeat=rq.Repeat(times=2))
    stage.work()


def repeated_later(stage):
    stage.enqueue(work.note, "again", repeat=rq.Repeat(times=2, interval=[60, 120]))
    stage.work()


# One after the other


def a_dependent_runs_after_its_parent(stage):
    parent = stage.enqueue(work.add, 2, 3)
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_waits_for_both_parents(stage):
    parents = [stage.enqueue(work.add, 2, 3), stage.enqueue(work.fail, job_id="two")]
    stage.enqueue(work.note, "after", job_id="three", depends_on=parents)
    stage.work()


def a_dependent_of_two_runs_after_the_last(stage):
    parents = [stage.enqueue(work.add, 2, 3), stage.enqueue(work.add, 4, 5, job_id="two")]
    stage.enqueue(work.note, "after", job_id="three", depends_on=parents)
    stage.work()


def dependents_on_other_queues(stage):
    parent = stage.enqueue(work.add, 2, 3)
    for name in ("high", "low"):
        stage.queue(name).enqueue(work.note, name, job_id=f"on-{name}", depends_on=parent)
    stage.work()


def a_dependent_goes_to_the_front(stage):
    parent = stage.enqueue(work.add, 2, 3)
    stage.enqueue(work.note, "second", job_id="two")
    front = Dependency(jobs=[parent], enqueue_at_front=True)
    stage.enqueue(work.note, "after", job_id="three", depends_on=front)
    stage.work(max_jobs=1)


def a_dependent_stays_behind_a_failed_parent(stage):
    parent = stage.enqueue(work.fail)
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_that_allows_failure_runs(stage):
    parent = stage.enqueue(work.fail)
    allowed = Dependency(jobs=[parent], allow_failure=True)
    stage.enqueue(work.note, "after", job_id="two", depends_on=allowed)
    stage.work()


def a_dependent_of_a_forgotten_parent_runs(stage):
    parent = stage.enqueue(work.add, 2, 3, result_ttl=0)
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_of_three_runs_after_the_last(stage):
    parents = [stage.enqueue(work.add, 1, number, job_id=f"job-{number}") for number in range(3)]
    stage.enqueue(work.note, "after", job_id="four", depends_on=parents)
    stage.work()


def a_dependent_of_three_of_which_one_fails(stage):
    parents = [stage.enqueue(work.add, 1, number, job_id=f"job-{number}") for number in range(2)]
    parents.append(stage.enqueue(work.fail, job_id="bad"))
    stage.enqueue(work.note, "never", job_id="four", depends_on=parents)
    allowed = Dependency(jobs=parents, allow_failure=True)
    stage.enqueue(work.note, "after", job_id="five", depends_on=allowed)
    stage.work()


def a_dependent_of_what_has_finished_already(stage):
    parent = stage.enqueue(work.add, 2, 3)
    stage.work()
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_of_a_job_that_is_tried_again(stage):
    parent = stage.enqueue(work.fail_until_the_last_try, retry=rq.Retry(max=1))
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_of_a_job_that_is_repeated(stage):
    parent = stage.enqueue(work.note, "again", repeat=rq.Repeat(times=1))
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_dependent_of_a_job_that_is_repeated_later(stage):
    parent = stage.enqueue(work.note, "again", repeat=rq.Repeat(times=1, interval=60))
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.work()


def a_repetition_that_fails(stage):
    stage.enqueue(work.fail, repeat=rq.Repeat(times=2), retry=rq.Retry(max=1))
    stage.work()


def dependents_that_a_worker_left_between_its_two_steps(stage):
    parent = stage.enqueue(work.add, 2, 3)
    job = stage.enqueue(work.note, "after", job_id="two", depends_on=parent)
    stage.queue().remove(parent)
    parent.set_status("finished")
    stage.queue().deferred_job_registry.remove(job)
    job.set_status("ready_to_enqueue")
    stage.redis.zadd(f"{keys.RQ}ready:default", {"two": 1})
    stage.work()


def a_chain_of_dependents(stage):
    job = None
    for number in range(4):
        job = stage.enqueue(work.note, f"{number}", job_id=f"job-{number}", depends_on=job)
    stage.work()


def a_group(stage):
    calls = [
        rq.Queue.prepare_data(work.add, args=(number, 1), job_id=f"job-{number}")
        for number in range(3)
    ]
    Group.create(stage.redis, name="sums").enqueue_many(stage.queue(), calls)
    stage.work()


def a_group_with_a_failure(stage):
    calls = [
        rq.Queue.prepare_data(work.add, args=(1, 1), job_id="one"),
        rq.Queue.prepare_data(work.fail, job_id="two"),
    ]
    Group.create(stage.redis, name="mixed").enqueue_many(stage.queue(), calls)
    stage.work()


# A rate limit


def held_until_there_is_a_slot(stage):
    for number in range(3):
        stage.enqueue(work.note, f"{number}", job_id=f"job-{number}", rate_limit=_LIMIT)
    stage.work()


def two_slots_on_two_queues(stage):
    limit = rq.RateLimit("mail", 2)
    for number in range(2):
        for name in ("high", "default"):
            queue = stage.queue(name)
            queue.enqueue(work.add, number, 1, job_id=f"{name}-{number}", rate_limit=limit)
    stage.work()


def _behind(stage, func, *args, serializer="json", **options):
    """One job that has the only slot, one that is held."""
    job = stage.enqueue(func, *args, serializer=serializer, rate_limit=_LIMIT, **options)
    stage.enqueue(work.note, "held", job_id="two", serializer=serializer, rate_limit=_LIMIT)
    return job


def held_behind_a_failure(stage):
    _behind(stage, work.fail)
    stage.work()


def held_behind_a_job_that_is_forgotten_at_once(stage):
    _behind(stage, work.add, 2, 3, result_ttl=0)
    stage.work()


def held_behind_retries_at_once(stage):
    _behind(stage, work.fail, retry=rq.Retry(max=2))
    stage.work()


def held_behind_a_retry_later(stage):
    _behind(stage, work.fail, retry=rq.Retry(max=1, interval=60))
    stage.work()


def held_behind_a_repetition_later(stage):
    _behind(stage, work.note, "again", repeat=rq.Repeat(times=2, interval=60))
    stage.work()


def held_behind_a_repetition_at_once(stage):
    _behind(stage, work.note, "again", repeat=rq.Repeat(times=2))
    stage.work()


def held_behind_a_job_that_is_canceled_while_queued(stage):
    _behind(stage, work.add, 2, 3).cancel()
    stage.work()


def held_behind_a_job_that_is_requeued_by_hand(stage):
    job = stage.enqueue(work.fail, rate_limit=_LIMIT)
    stage.work()
    stage.enqueue(work.note, "first", job_id="two", rate_limit=_LIMIT)
    job.requeue()
    stage.work(max_jobs=1)


def asked_for_a_retry_with_another_held_behind_it(stage):
    _behind(stage, work.ask_for_a_retry, 1, 60, serializer="pickle")
    stage.work(serializer="pickle")


def held_behind_a_success_callback_that_breaks(stage):
    _behind(stage, work.add, 2, 3, on_success=rq.Callback(work.on_success_broken))
    stage.work()


def failed_for_want_of_its_function_with_another_held_behind_it(stage):
    _behind(stage, "tests.compat.work.no_such_function")
    stage.work()


def held_behind_a_job_over_its_time_limit(stage):
    _behind(stage, work.wait_for_ever, job_timeout=1)
    stage.work()


def held_behind_a_job_that_is_deleted_while_queued(stage):
    _behind(stage, work.add, 2, 3).delete()
    stage.work()


def held_at_the_front(stage):
    stage.enqueue(work.note, "first", rate_limit=_LIMIT)
    stage.enqueue(work.note, "second", job_id="two")
    stage.enqueue(work.note, "held", job_id="three", rate_limit=_LIMIT, at_front=True)
    stage.work(max_jobs=2)


def held_and_canceled(stage):
    stage.enqueue(work.note, "first", rate_limit=_LIMIT)
    stage.enqueue(work.note, "never", job_id="two", rate_limit=_LIMIT).cancel()
    stage.work()


def a_slot_that_nobody_freed(stage):
    job = _behind(stage, work.add, 2, 3)
    stage.redis.delete(job.key, keys.queue("default"))
    stage.work()


@needs_a_child
def stopped_by_command_with_another_held_behind_it(stage):
    job = _behind(stage, work.wait_for_ever)
    stage.begin()
    stage.retire_when_begun(job)


def a_dependent_is_held(stage):
    parent = stage.enqueue(work.add, 2, 3)
    stage.enqueue(work.note, "after", job_id="two", depends_on=parent, rate_limit=_LIMIT)
    stage.enqueue(work.note, "first", job_id="three", rate_limit=_LIMIT)
    stage.work(max_jobs=1)


def due_and_held(stage):
    stage.queue().enqueue_in(-_A_MINUTE, work.note, "late", job_id="one", rate_limit=_LIMIT)
    stage.enqueue(work.note, "first", job_id="two", rate_limit=_LIMIT)
    stage.work(with_scheduler=True, max_jobs=1)


# Callbacks and webhooks


def a_success_callback(stage):
    stage.enqueue(work.add, 2, 3, on_success=rq.Callback(work.on_success))
    stage.work()


def a_failure_callback(stage):
    stage.enqueue(work.fail, on_failure=rq.Callback(work.on_failure))
    stage.work()


def a_failure_callback_of_a_job_with_retries(stage):
    stage.enqueue(work.fail, on_failure=rq.Callback(work.on_failure), retry=rq.Retry(max=1))
    stage.work()


def a_success_callback_that_breaks(stage):
    stage.enqueue(work.add, 2, 3, on_success=rq.Callback(work.on_success_broken))
    stage.work()


def a_success_callback_that_breaks_and_a_failure_callback(stage):
    stage.enqueue(
        work.add, 2, 3,
        on_success=rq.Callback(work.on_success_broken), on_failure=rq.Callback(work.on_failure),
    )  # fmt: skip
    stage.work()


def a_failure_callback_that_breaks(stage):
    stage.enqueue(work.fail, on_failure=rq.Callback(work.on_failure_broken))
    stage.work()


def a_callback_of_a_forgotten_job(stage):
    stage.enqueue(work.add, 2, 3, on_success=rq.Callback(work.on_success), result_ttl=0)
    stage.work()


def webhooks(stage):
    with Listener(stage.redis) as url:
        hooks = [
            rq.Webhook(url, "finished", method="POST", headers={"X-From": "here"}),
            rq.Webhook(url, "failed", method="POST"),
            rq.Webhook(url, "finished"),
        ]
        stage.enqueue(work.add, 2, 3, webhooks=hooks)
        stage.enqueue(work.fail, job_id="two", webhooks=hooks)
        stage.work()
    _without_port(stage.redis, keys.job("one"), keys.job("two"))


# Ways to be there


def at_the_front(stage):
    stage.enqueue(work.note, "first")
    stage.enqueue(work.note, "second, at the front", job_id="two", at_front=True)
    stage.work()


def unique_and_scheduled(stage):
    stage.queue().enqueue_in(-_A_MINUTE, work.note, "late", job_id="one", unique=True)
    stage.work(with_scheduler=True)


def canceled_while_queued(stage):
    stage.enqueue(work.note, "never").cancel()
    stage.enqueue(work.note, "second", job_id="two")
    stage.work()


def canceled_while_its_id_stands_in_the_queue(stage):
    stage.enqueue(work.note, "never").cancel()
    stage.redis.rpush(keys.queue("default"), "one")
    stage.work()


def canceled_while_running(stage):
    stage.enqueue(work.cancel_myself)
    stage.work()


def deleted_while_running(stage):
    stage.enqueue(work.delete_myself)
    stage.work()


def expired_while_queued(stage):
    stage.enqueue(work.note, "never", ttl=1)
    stage.redis.delete(keys.job("one"))
    stage.enqueue(work.note, "second", job_id="two")
    stage.work()


def with_a_ttl(stage):
    stage.enqueue(work.add, 2, 3, ttl=120)
    stage.work()


def without_a_time_limit(stage):
    stage.enqueue(work.add, 2, 3, job_timeout=-1)
    stage.work()


def scheduled_for_later(stage):
    stage.queue().enqueue_in(_A_MINUTE, work.note, "later", job_id="one")
    stage.enqueue(work.note, "now", job_id="two")
    stage.work()


def due_with_the_workers_scheduler(stage):
    stage.queue().enqueue_in(-_A_MINUTE, work.note, "late", job_id="one")
    stage.queue().enqueue_in(_A_MINUTE, work.note, "later", job_id="two")
    stage.work(with_scheduler=True)


def none_at_all(stage):
    stage.work()


def suspended(stage):
    stage.enqueue(work.note, "not now")
    suspend(stage.redis)
    stage.work()


def meta_that_the_job_saves(stage):
    stage.enqueue(work.save_meta, meta={"from": "the caller"})
    stage.work()


def an_async_function(stage):
    stage.enqueue(work.add_later, 2, 3)
    stage.work()


def pickled(stage):
    stage.enqueue(work.union, {1}, {2}, serializer="pickle", meta={"at": {1, 2}})
    stage.work(serializer="pickle")


def pickled_and_failed(stage):
    stage.enqueue(work.fail, serializer="pickle")
    stage.work(serializer="pickle")


def a_job_class_of_ones_own(stage):
    job = work.LabelledJob.create(
        work.add, args=(2, 3), id="one", connection=stage.redis, serializer=stage.queue().serializer
    )
    stage.queue(job_class=work.LabelledJob).enqueue_job(job)
    stage.work(job_class="tests.compat.work.LabelledJob")


def webhooks_of_a_job_that_is_tried_again(stage):
    with Listener(stage.redis) as url:
        hooks = [rq.Webhook(url, status, method="POST") for status in ("finished", "failed")]
        stage.enqueue(work.fail, retry=rq.Retry(max=1), webhooks=hooks)
        stage.work()
    _without_port(stage.redis, keys.job("one"))


def seen_from_inside_a_job(stage):
    stage.enqueue(work.look_around)
    stage.work()


class Listener:
    """A web server that writes down who called it, and gives its address."""

    def __init__(self, redis):
        handler = functools.partial(_Handler, redis)
        self._server = http.server.HTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, redis, *args):
        self._redis = redis
        super().__init__(*args)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        payload = body.partition(', "exc_info"')[0]
        self._redis.rpush(work.CALLS, f"{self.command} {payload} {self.headers.get('X-From')}")
        self.send_response(204)
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_):
        pass


def _without_port(redis, *keys):
    """The server's port differs between two plays."""
    for key in keys:
        webhooks = redis.hget(key, "webhooks").decode()
        redis.hset(key, "webhooks", re.sub(r":\d+/", "/", webhooks))


ALL = {
    name: thing
    for name, thing in list(globals().items())
    if callable(thing) and getattr(thing, "__module__", "") == __name__
    and not name.startswith("_") and name not in ("Listener", "needs_a_child")
}  # fmt: skip
