"""Real servers that cannot be used as they are set, and what every program must say of each."""

import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError

from jiffy import keys
from jiffy.dev import redis_server
from jiffy.errors import RedisAway, RedisRefused
from tests.support.missing import installed_server, is_missing
from tests.support.newcomer import wait_until
from tests.support.ports import free_port

SECRET = "s3cret"
RIGHTS = f"Give it ~{keys.RQ}* ~{keys.OWN}* &{keys.RQ}pubsub:* +@all -@dangerous -@admin (ACL SETU"
TLS_OR_NOT = "REDIS_URL must begin with rediss:// for a server with TLS, with redis:// for one "


@contextmanager
def serving(folder, *options, program=None, tls_port=None):
    """A server with these options, in a folder of its own; yields its port."""
    command = [program or redis_server.program(), "--bind", "127.0.0.1", "--dir", folder, *options]
    command += ["--appendonly", "no", "--port"]
    for _ in range(5):
        port = tls_port or free_port(beside=10_000)  # where a cluster listens, too
        words = [*command, "0" if tls_port else str(port)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda p=process, port=port: p.poll() is not None or listens(port))
                if tls_port or process.poll() is None:  # or else another program has its port
                    yield port
                    return
            finally:
                process.kill()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def tls_serving(folder, *options, host="127.0.0.1"):
    """The same with TLS; yields its address, and the same with its authority's certificate."""
    authority, port = trustme.CA(), free_port()
    certificate, files = authority.issue_cert(host), Path(folder)
    certificate.private_key_pem.write_to_path(files / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(files / "cert.pem")
    authority.cert_pem.write_to_path(files / "ca.pem")
    with serving(
        folder, "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-key-file", files / "key.pem", "--tls-cert-file", files / "cert.pem",
        "--tls-ca-cert-file", files / "ca.pem", *options,
        program=installed_server(), tls_port=port,
    ):  # fmt: skip
        if not listens(port):
            is_missing("the installed server has no TLS")
        url = f"rediss://:{SECRET}@127.0.0.1:{port}/0"
        yield url, f"{url}?ssl_ca_certs={files / 'ca.pem'}"


@contextmanager
def sentinel(folder, rule=f"requirepass {SECRET}"):
    """The port of a sentinel with this line in its configuration."""
    config, port = Path(folder) / "sentinel.conf", free_port()
    config.write_text(f"bind 127.0.0.1\nport {port}\n{rule}\n")
    command = [redis_server.program(), config, "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or listens(port))
            yield port
        finally:
            process.kill()


# Each of these starts one and yields its address.
@contextmanager
def nothing_there(_):
    yield f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"


@contextmanager
def unknown_name(_):
    yield f"redis://:{SECRET}@no-such-host.invalid:6379/0"


@contextmanager
def wrong_password(folder):
    with serving(folder, "--requirepass", "another") as port:
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"


@contextmanager
def no_password(folder):
    with serving(folder, "--requirepass", SECRET) as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def needless_password(folder):
    with serving(folder) as port:
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"


@contextmanager
def no_rights(folder):
    with serving(folder) as port, Redis(port=port, protocol=2) as redis:
        redis.execute_command("ACL", "SETUSER", "guest", "on", f">{SECRET}", "+@connection", "~*")
        yield f"redis://guest:{SECRET}@127.0.0.1:{port}/0"


@contextmanager
def no_such_database(folder):
    with serving(folder) as port:
        yield f"redis://127.0.0.1:{port}/99"


def take_a_connection(client):
    """The server may not know yet that the one is gone with which it was tried."""

    def is_let_in():
        with suppress(RedisError):
            return client.ping()

    wait_until(is_let_in)


@contextmanager
def no_connection_left(folder):
    with serving(folder, "--maxclients", "2") as port, ExitStack() as others:
        for _ in range(2):
            take_a_connection(others.enter_context(Redis(port=port, protocol=2)))
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def still_loading(folder):
    with serving(folder) as port, Redis(port=port, protocol=2) as redis:
        redis.mset({f"key{number}": os.urandom(2048) for number in range(1000)})
        redis.save()
        if redis.info("server")["redis_version"].startswith("6."):
            pytest.skip("Redis 6.2 answers nothing while it loads slowly")
    slowly = ("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024")
    with serving(folder, *slowly) as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def replica(folder):
    with serving(folder) as port, Redis(port=port, protocol=2) as redis:
        redis.replicaof("127.0.0.1", free_port())
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def cluster(folder):
    if "{" in keys.RQ:
        pytest.skip("with a hash tag in RQ_KEY_PREFIX, a cluster of one node serves enqueue")
    with serving(folder, "--cluster-enabled", "yes") as port:
        with Redis(port=port, protocol=2) as redis:
            redis.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            wait_until(lambda: redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def cluster_without_slots(folder):
    with serving(folder, "--cluster-enabled", "yes") as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def sentinel_as_redis(folder):
    with sentinel(folder) as port:
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"


@contextmanager
def sentinel_password(folder):
    with sentinel(folder) as port:
        yield f"redis+sentinel://127.0.0.1:{port}/main?sentinel_password=not-{SECRET}"


@contextmanager
def sentinel_name(folder):
    with sentinel(folder) as port:
        yield f"redis+sentinel://127.0.0.1:{port}/main?sentinel_password={SECRET}"


@contextmanager
def no_sentinel(_):
    yield f"redis+sentinel://:{SECRET}@127.0.0.1:{free_port()}/main"


@contextmanager
def redis_as_sentinel(folder):
    with serving(folder) as port:
        yield f"redis+sentinel://127.0.0.1:{port}/main"


@contextmanager
def untrusted_certificate(folder):
    with tls_serving(folder) as (url, _):
        yield url


@contextmanager
def certificate_of_another(folder):
    with tls_serving(folder, host="redis.example") as (_, url):
        yield url


@contextmanager
def no_connection_left_with_tls(folder):
    options = ("--requirepass", SECRET, "--maxclients", "1")
    with tls_serving(folder, *options) as (_, url), Redis.from_url(url, protocol=2) as other:
        take_a_connection(other)
        yield url


@contextmanager
def tls_asked_for_in_plain(folder):
    with tls_serving(folder) as (url, _):
        yield url.replace("rediss://", "redis://")


@contextmanager
def plain_asked_for_with_tls(folder):
    with serving(folder) as port:
        # It waits for the rest of what it takes for a command: its client need not do so for long.
        limits = "socket_timeout=0.1&socket_connect_timeout=0.1"
        yield f"rediss://:{SECRET}@127.0.0.1:{port}/0?{limits}"


@contextmanager
def web_server(_):
    class BadRequest(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.request.recv(1024)
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), BadRequest) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"redis://:{SECRET}@127.0.0.1:{server.server_port}/0"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def web_server_with_tls(folder):
    with web_server(folder) as url:
        yield url.replace("redis://", "rediss://")


@dataclass(frozen=True)
class Trouble:
    """A server that cannot be used, and what begins the reason and the remedy that are given."""

    start: Callable
    error: type
    reason: str
    remedy: str


TROUBLES = [
    Trouble(
        nothing_there,
        RedisAway,
        "connection refused",
        "Run 'python -m jiffy dev' or set REDIS_URL.",
    ),
    Trouble(
        unknown_name, RedisAway, "its host name cannot be resolved", "Check the host in REDIS_URL."
    ),
    Trouble(wrong_password, RedisRefused, "wrong password", "Check REDIS_URL: redis://user:passw"),
    Trouble(no_password, RedisRefused, "it needs a password", "Put it into REDIS_URL: redis://:p"),
    Trouble(needless_password, RedisRefused, "it has no password", "Remove the password from RED"),
    Trouble(no_rights, RedisRefused, "its user may not run the '", RIGHTS),
    Trouble(no_such_database, RedisRefused, "it has no database with that number", "Lower the num"),
    Trouble(no_connection_left, RedisAway, "all its connections are used up", "Start fewer proc"),
    Trouble(still_loading, RedisAway, "it is still loading its data", "Try again later."),
    Trouble(replica, RedisAway, "it is a read-only replica", "Set REDIS_URL to its primary."),
    Trouble(cluster, RedisRefused, "it is a Redis Cluster, which is not supported", "Set REDIS_U"),
    Trouble(cluster_without_slots, RedisRefused, "it is a Redis Cluster", "Set REDIS_URL to a si"),
    Trouble(sentinel_as_redis, RedisRefused, "it does not know the command ", "Redis 6.2 "),
    Trouble(sentinel_password, RedisRefused, "the sentinels refuse the password", "Put their pa"),
    Trouble(
        sentinel_name, RedisAway, "the sentinels know no server with that name", "Check it in "
    ),
    Trouble(no_sentinel, RedisAway, "no sentinel answers", "Check the hosts in REDIS_URL."),
    Trouble(redis_as_sentinel, RedisRefused, "it does not know the command SENTINEL", "Redis 6.2 "),
    Trouble(untrusted_certificate, RedisRefused, "its certificate is not trusted: ", "Add ?ssl_c"),
    Trouble(certificate_of_another, RedisRefused, "its certificate is for another n", "Use the n"),
    Trouble(no_connection_left_with_tls, RedisAway, "it ended the TLS handshake", "Either its co"),
    Trouble(
        tls_asked_for_in_plain, RedisAway, "it closed the connection", "If this happens every "
    ),
    Trouble(plain_asked_for_with_tls, RedisRefused, "it does not speak TLS", TLS_OR_NOT),
    Trouble(web_server, RedisRefused, "the server there is not Redis", TLS_OR_NOT),
    Trouble(web_server_with_tls, RedisRefused, "it does not speak TLS", TLS_OR_NOT),
]
