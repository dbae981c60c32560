"""Every kind of URL reaches a real Redis, over few connections."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jiffy import clock, redis_io
from tests.support.newcomer import CHECKOUT, PATIENCE_S, wait_until
from tests.support.ports import free_port
from tests.support.troubles import SECRET, serving, tls_serving
from tests.support.troubles import sentinel as a_sentinel


@pytest.fixture
def client_of(environ):
    """Connect as a process with these settings does: `client_of(REDIS_URL=…)`."""
    clients = []

    def connect(**values):
        environ(**values)
        clients.append(redis_io.connect("test"))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def tcp_redis(tmp_path):
    """The loopback port of a Redis of this test."""
    with serving(tmp_path) as port:
        yield port


@pytest.fixture
def sentinel(tcp_redis, tmp_path):
    """The port of a sentinel that calls the Redis of this test `main`."""
    with a_sentinel(tmp_path, f"sentinel monitor main 127.0.0.1 {tcp_redis} 1") as port:
        yield port


# A fork amid an import leaves the child with a lock that is never released.
def test_the_first_enqueue_imports_nothing(tcp_redis):
    program = """if True:
        import sys
        from enqueue import enqueue
        from jobs import numbers
        before = set(sys.modules)
        enqueue(numbers.add, 1, 2)
        print(sorted(set(sys.modules) - before))
    """
    said = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"REDIS_URL": f"redis://localhost:{tcp_redis}"},
        cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip

    assert said.stdout == "[]\n"


def test_a_redis_is_found_by_its_name_where_one_sentinel_is_away(client_of, sentinel):
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel}"
    client = client_of(REDIS_URL=f"redis+sentinel://{hosts}/main/3")
    client.set("here", "yes")

    assert client.info("keyspace").keys() == {"db3"}


@pytest.mark.parametrize("address", ["redis://127.0.0.1:{port}", "{sentinel}"])
def test_a_capped_client_shares_its_connections_and_closes_idle_ones(
    address, tcp_redis, sentinel, environ, monkeypatch
):
    is_over = threading.Event()
    monkeypatch.setattr(clock, "pause", lambda _: is_over.wait(PATIENCE_S))
    behind = f"redis+sentinel://127.0.0.1:{sentinel}/main"
    environ(REDIS_URL=address.format(port=tcp_redis, sentinel=behind))
    with redis_io.connect("capped", most=2) as client, Redis(port=tcp_redis) as other:

        def opened():
            return [one for one in other.client_list() if "capped" in one["name"]]

        with ThreadPoolExecutor(10) as threads:
            counts = list(threads.map(lambda _: client.ping() and len(opened()), range(100)))
        is_over.set()
        wait_until(lambda: not opened())

    assert 1 <= max(counts) <= 2


def test_a_capped_client_waits_only_so_long_for_a_free_connection(tcp_redis, environ, monkeypatch):
    monkeypatch.setattr(redis_io, "FREE_CONNECTION_TIMEOUT_S", 0.05)
    environ(REDIS_URL=f"redis://127.0.0.1:{tcp_redis}")
    with (
        redis_io.connect("capped", most=2) as client, client.client(), client.client(),
        pytest.raises(RedisConnectionError) as error,
    ):  # fmt: skip
        client.ping()

    assert redis_io.reason_of(error.value) == "all connections of this process are in use"


def test_a_sentinel_that_is_away_is_passed_over(client_of, sentinel):
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel}"

    assert client_of(REDIS_URL=f"redis+sentinel://{hosts}/main").ping()


def test_a_certificate_is_verified_by_its_authority_or_not_at_all(client_of, tmp_path):
    with tls_serving(tmp_path, "--requirepass", SECRET) as (url, url_with_authority):
        assert client_of(REDIS_URL=url_with_authority).ping()
        assert client_of(REDIS_URL=url, REDIS_TLS_VERIFY="no").ping()


def test_a_redis_that_is_at_a_long_script_is_away_until_it_is_done(redis):
    redis.config_set("lua-time-limit", 10)
    script = threading.Thread(target=run_for_ever, args=(redis,))
    with redis.client() as other:  # connected before: no one else gets in meanwhile
        script.start()
        try:
            with pytest.raises(ResponseError, match="BUSY") as busy:
                ping_for_ever(other)
        finally:
            other.script_kill()
    script.join()
    redis.config_set("lua-time-limit", 5000)

    assert redis_io.is_away(busy.value)


def ping_for_ever(redis):
    while True:
        redis.ping()


def run_for_ever(redis):
    with suppress(ResponseError):  # it is killed
        redis.eval("while true do end", 0)


def test_client_list_names_each_client(client_of, redis, redis_address):
    client_of(REDIS_URL=redis_address, DYNO="worker.2").ping()

    assert "jiffy:test:worker.2" in {client["name"] for client in redis.client_list()}


def test_a_line_that_has_gone_silent_is_given_up_however_patient_its_client_is(
    redis_address, monkeypatch
):
    monkeypatch.setattr(redis_io, "ANSWER_TIMEOUT_S", 0.01)
    patient = Redis.from_url(redis_address, socket_timeout=60)
    with patient, pytest.raises(redis_io.Unanswered) as raised:
        redis_io.exchange(patient, redis_io.command("BLPOP", "test:none", 60))

    assert isinstance(raised.value.__cause__, RedisTimeoutError)


def test_what_is_large_may_take_longer_than_the_small(redis):
    link = redis_io.Link(redis, answer_s=0.01)
    wait = redis_io.command("BLPOP", "test:none", 0.1)
    with pytest.raises(redis_io.Unanswered):
        link.exchange(wait)

    assert link.exchange(redis_io.command("ECHO", "x" * 10_000), wait)[1] is None


def test_what_redis_refuses_is_raised_at_once_and_is_no_outage(redis, caplog):
    redis.set("test:string", "1")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        redis_io.Link(redis).insist(lambda: redis.lpush("test:string", 1))

    assert caplog.messages == []
