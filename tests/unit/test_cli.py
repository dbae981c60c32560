"""How the command `jiffy` reads what is typed.  What it then does is in tests/process."""

import os
import re

import pytest

from jiffy import cli


def typed(name, *words):
    """What a subcommand is called with."""
    return cli.load(name).make_context(name, list(words)).params


@pytest.mark.parametrize("number", ["-3", "-0.5", "-.5", "-1e3"])
def test_a_negative_number_is_an_argument(number):
    assert typed("enqueue", "jobs.numbers.add", number, "y=-3")["arguments"] == (number, "y=-3")


def test_what_stands_behind_two_dashes_is_an_argument():
    words = typed("enqueue", "jobs.numbers.add", "--wait", "--", "--wait", "-x")

    assert (words["arguments"], words["wait"]) == (("--wait", "-x"), True)


@pytest.mark.parametrize(
    ("words", "schedule", "queues"),
    [
        (["high", "low"], None, ("high", "low")),
        (["--with-scheduler", "high", "low"], "", ("high", "low")),
        (["high", "--with-scheduler", "a:b-c", "low"], "", ("high", "a:b-c", "low")),
        (["--with-scheduler", "shop.schedule:SCHEDULE", "low"], "shop.schedule:SCHEDULE", ("low",)),
        (["--with-scheduler", "-n", "2", "low"], "", ("low",)),
    ],
)
def test_a_schedule_may_stand_behind_with_scheduler_and_so_may_a_queue(words, schedule, queues):
    found = typed("worker", *words)

    assert (found["with_scheduler"], found["queues"]) == (schedule, queues)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["beat"], "No command 'beat' (did you mean 'scheduler'?). See jiffy --help."),
        (["scheduler", "lst"], "No command 'lst' (did you mean 'list'?). See jiffy scheduler --h"),
        (["scheduler", "x"], "SCHEDULE is 'x'; it must be a module and a name in it, such as"),
        (["worker", "--queues", "low"],
         "No option '--queues' (write its value alone: it is an argument). See jiffy worker --h"),
        (["worker", "-Q", "low"], "No option '-Q' (write its value alone: it is an argument). See"),
        (["worker", "-c", "4"], "No option '-c' (did you mean '-n'?). See jiffy worker --help."),
        (["dashboard", "--port=80"], "No option '--port' (it is a setting: PORT=…). See jiffy"),
        (["enqueue", "add", "--eta=5"], "No option '--eta' (did you mean '--at'?). See jiffy e"),
        (["bulk", "retry", "stat:failed"],
         "MATCHING is 'stat:failed'; it must be a filter: stat: is no field (did you mean "
         "'state'?); put it in quotes if it is text."),
        (["scheduler", "shop_gone:S"], "SCHEDULE is 'shop_gone:S'; it must be in a module that"),
        (["scheduler", "jobs.numbers:S"], "SCHEDULE is 'jobs.numbers:S'; it must be a name that"),
        (["scheduler", "jobs.numbers:add"], "jobs.numbers:add: SCHEDULE must be a list, such as"),
        (["scheduler", "pause", "sum"], "Missing option '--why'. See jiffy scheduler p"),
        (["worker", "a,b"],
         "queue is 'a,b'; it must be the name of a queue, without commas and line"),
        (["worker", "-n", "0"], "-n is 0; it must be 1 or more."),
        (["worker", "-n", "x"], "Invalid value for '-n': 'x' is not a valid integer. See jiffy"),
        (["enqueue", "jobs.numbers.add", "--redis-url", "x"],
         "--redis-url is 'x'; it must be a redis://, rediss://,"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(words, line, command_line, environ):
    environ(REDIS_URL=os.environ["REDIS_URL"])  # as it was again, after a test that changes it
    code, _, text = command_line(*words)

    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(line)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("GONE", "HOOKS is 'tests.jobs.hooks:GONE'; it must be a name that tests.jobs.hooks"),
        ("no_hooks", "HOOKS is {'around_job': []}; it must be Hooks(around_job=[…]"),
        ("NO_LIST", "around_job is <function swallow"),
        ("NUMBER", "around_job, hook 1, is 3; it must be a function that returns a context"),
        ("BARE", "around_job, hook 1, is 'bare'; it must be under @contextmanager."),
    ],
)
def test_a_worker_with_invalid_hooks_does_not_start(name, error, command_line, environ):
    environ(HOOKS=f"tests.jobs.hooks:{name}")
    code, _, text = command_line("worker", "--burst")

    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(error)


@pytest.mark.parametrize("name", sorted({*cli.command.list_commands(None)} - {"init"}))
def test_help_has_examples_and_says_where_redis_is(name, command_line):
    code, text, _ = command_line(name, "--help")

    assert code == 0
    assert re.search(rf"^Examples:\n  .*jiffy {name}\b", text, re.MULTILINE)
    assert "--redis-url" in text
