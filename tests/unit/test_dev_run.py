"""What `make run` starts, and on which ports."""

import socket
from contextlib import suppress

import pytest

from jiffy.dev import run
from jiffy.errors import InvalidSetting, JiffyError


def test_a_free_port_is_taken_and_a_busy_one_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert run.free_port("127.0.0.1", port) > port


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(InvalidSetting, match=r"^HOST is '192\.0\.2\.1'; it must be an address of"):
        run.free_port("192.0.2.1", 8000)


def test_no_free_port_is_an_error():
    with socket.socket() as taken:
        with suppress(OSError):  # it is taken by another run of these tests
            taken.bind(("127.0.0.1", 65535))
            taken.listen()

        with pytest.raises(JiffyError, match=r"^No free port from 65535 upwards; set PORT to one"):
            run.free_port("127.0.0.1", 65535)


@pytest.mark.parametrize(
    ("lines", "started"),
    [
        ([], ["dashboard", "worker", "scheduler"]),
        (["web: gunicorn shop:app"], ["dashboard", "worker", "scheduler"]),
        (["worker: celery -A shop worker"], ["dashboard", "jiffy-worker", "scheduler"]),
        (["web: gunicorn dashboard:app --worker-class jiffy.x"], ["worker", "scheduler"]),
        (["jobs: jiffy worker -n 4", "pages: python -m jiffy dashboard"], ["scheduler"]),
        (["jobs: python worker.py --with-scheduler", "web: python dashboard.py"], []),
        (["release: python scheduler.py --check"], ["dashboard", "worker", "scheduler"]),
    ],
)
def test_what_no_line_of_the_procfile_starts_is_started_beside_them(
    lines, started, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Procfile").write_text("\n".join(lines))
    commands = run.commands("")

    kept = [line.partition(":")[0] for line in lines if not line.startswith("release")]
    assert [*commands] == kept + started
