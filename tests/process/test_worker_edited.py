"""A worker keeps the code that it has imported; its error says so where that matters."""

import signal

import pytest

from jiffy.producer.enqueue import Queue
from tests.support.worker_processes import until_over
from tests.support.worker_support import reason

pytestmark = pytest.mark.slow

FIRST = "def first():\n    return 1\n\n\nclass Shop:\n    pass\n"
LATER = "\n    @staticmethod\n    def later():\n        return 2\n\n\ndef later():\n    return 2\n"
RESTART = (
    "The file of {} has changed since this process imported it: restart the worker, or the web app."
)


@pytest.fixture
def start(start_worker, tmp_path):
    """Start a worker whose jobs are in these files."""

    def run(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        return start_worker("-n", "1", JOBS_MODULES=",".join(texts), PYTHONPATH=str(tmp_path))

    return run


def run(redis, worker, path):
    job = Queue(connection=redis).enqueue(path)
    until_over(worker, redis, job.id)
    return job


@pytest.mark.parametrize("path", ["shop_orders.later", "shop_orders.Shop.later"])
def test_a_function_that_was_added_later_needs_a_restart(start, redis, tmp_path, path):
    worker = start(shop_orders=FIRST)
    run(redis, worker, "shop_orders.first")
    (tmp_path / "shop_orders.py").write_text(FIRST + LATER)
    failed = run(redis, worker, path)
    worker.send(signal.SIGTERM)
    worker.wait()
    done = run(redis, start(shop_orders=FIRST + LATER), path)

    assert reason(redis, failed.id).strip().endswith(RESTART.format("shop_orders"))
    assert done.return_value() == 2


def test_a_function_that_is_not_in_a_file_as_it_was_is_a_wrong_name(start, redis):
    failed = run(redis, start(shop_orders=FIRST), "shop_orders.frist")

    assert reason(redis, failed.id).strip().endswith("Did you mean 'shop_orders.first'?")
