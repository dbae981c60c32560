"""The README keeps its word: what it says to type works, one line after the other."""

import re
import shlex

import pytest
from redis import Redis

from jiffy import keys
from tests.support.newcomer import CHECKOUT, clone_set_up, make_run, new_folder, wait_until

README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# What a test cannot do: it would start itself.  In blocks of text there are names to fill in.
NOT_TYPED = ("make ",)
IN_VENV = ". .venv/bin/activate\n"


def shell_lines():
    blocks = [block for language, block in BLOCKS if language == "shell"]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def in_words_of(run, block):
    """The block as it is to be typed in this run: with its port and its token, in its .venv."""
    address, token = re.match(r"POST (\S+)api/jobs, Bearer (\S+)", run.after("HTTP API")).groups()
    block = block.replace("the-token-that-make-run-has-printed", token)
    return IN_VENV + block.replace("http://127.0.0.1:8000/", address)


def follow(run, language, block):
    """Do what a block of the README says."""
    title = re.match(r"# (\S+\.py)\n", block)
    if title:
        (run.folder / title.group(1)).write_text(block)
    elif language == "python":
        run.type(f"{IN_VENV}python -c {shlex.quote(block)}")
    elif language == "shell" and not block.startswith(NOT_TYPED):
        run.type(in_words_of(run, block))


def test_it_is_no_longer_than_one_reads():
    assert len(README.splitlines()) <= 150


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert [link for link in links if not (CHECKOUT / link).exists()] == []


def test_every_make_command_in_it_is_there():
    typed = {line.split()[1] for line in shell_lines() if line.startswith("make ")}
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))

    assert typed <= targets
    assert set(re.findall(r"`make (\w+)`", README)) <= targets


def test_the_schedule_in_it_is_the_one_that_is_shipped():
    shown = [block for _, block in BLOCKS if block.startswith("# scheduler.py\n")]

    assert shown == [f"# scheduler.py\n{(CHECKOUT / 'scheduler.py').read_text()}"]


@pytest.mark.slow
def test_everything_in_it_can_be_typed_word_by_word():
    with new_folder() as folder, make_run(clone_set_up(folder)) as run:
        run.wait_until_ready()
        for language, block in BLOCKS:
            follow(run, language, block)

        enqueued = sum(line.startswith(("python enqueue.py", "curl")) for line in shell_lines())
        with Redis.from_url(run.redis_address) as redis:
            wait_until(lambda: not redis.exists(keys.queue("default"), keys.queue("low")))
            # The sample job's two and the two from Python come to them; one is for later.
            wait_until(lambda: finished(redis) >= enqueued + 2 + 2 - 1)
        run.press_ctrl_c()
        run.wait_until_none_is_left()


def finished(redis):
    return redis.zcard(f"{keys.RQ}finished:default") + redis.zcard(f"{keys.RQ}finished:low")
