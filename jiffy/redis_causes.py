"""Why Redis cannot be used, and the remedy: one table of messages of clients and servers."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from redis.exceptions import RedisError, ResponseError

from jiffy import keys


class Cause(NamedTuple):
    """A known cause: `reason` and `remedy` are parts of a sentence and a sentence.

    `pattern` is searched in "ErrorType: its text"; what its group finds stands for {} in `reason`.
    `passes`: the same may succeed later without a change of settings.
    """

    pattern: str
    reason: str
    remedy: str
    passes: bool = False


_TLS_OR_NOT = (
    "REDIS_URL must begin with rediss:// for a server with TLS, with redis:// for one without; "
    "check its host and port too."
)
_RIGHTS = (
    f"Give it ~{keys.RQ}* ~{keys.OWN}* &{keys.RQ}pubsub:* +@all -@dangerous -@admin (ACL SETUSER), "
    "or name another user in REDIS_URL."
)
_WAIT = "Try again later."

_CAUSES = (
    Cause(
        r"MasterNotFoundError.*AuthenticationError",
        "the sentinels refuse the password",
        "Put their password into REDIS_URL as ?sentinel_password=…, percent-encoded.",
    ),
    Cause(
        r"MasterNotFoundError.* - ", "no sentinel answers", "Check the hosts in REDIS_URL.", True
    ),
    Cause(
        r"MasterNotFoundError",
        "the sentinels know no server with that name",
        "Check it in REDIS_URL: redis+sentinel://host:port/name.",
        True,
    ),
    Cause(
        r"NOAUTH|Authentication required",
        "it needs a password",
        "Put it into REDIS_URL: redis://:password@host:port/0.",
    ),
    Cause(
        r"without any password configured",
        "it has no password",
        "Remove the password from REDIS_URL, or check its host and port.",
    ),
    Cause(
        r"WRONGPASS|AuthenticationError",
        "wrong password, or no such user",
        "Check REDIS_URL: redis://user:password@host:port/0, the password percent-encoded (# is "
        "%23, / is %2F, ? is %3F, @ is %40, % is %25).",
    ),
    Cause(
        r" permissions to (.+? (?:command|arguments|key|channel))\b",
        "its user may not {}",
        _RIGHTS,
    ),
    Cause(
        r"NOPERM|NoPermissionError|user executing the script can't",
        "its user lacks permissions",
        _RIGHTS,
    ),
    Cause(
        r"MovedError|AskError|CrossSlot|CROSSSLOT|ClusterDownError|CLUSTERDOWN|mode cluster"
        r"|in cluster mode|a non local key|hash to the same slot",
        "it is a Redis Cluster, which is not supported",
        "Set REDIS_URL to a single server, or to sentinels with redis+sentinel://.",
    ),
    Cause(
        r"unknown command ['`]?(\w+)",
        "it does not know the command {}",
        "Redis 6.2 or Valkey is needed, or newer; sentinels, and only these, are set as "
        "redis+sentinel:// in REDIS_URL.",
    ),
    Cause(
        r"Unknown Redis command",
        "it does not know a command of our scripts",
        "Redis 6.2 or Valkey is needed, or newer, with no command renamed but CONFIG and the like.",
    ),
    Cause(
        r"DB index is out of range|invalid DB index",
        "it has no database with that number",
        "Lower the number at the end of REDIS_URL; most servers have 0 to 15, some only 0.",
    ),
    Cause(
        r"(?:Hostname|IP address) mismatch",
        "its certificate is for another name",
        "Use the name of the certificate in REDIS_URL, or set REDIS_TLS_VERIFY=no.",
    ),
    Cause(
        r"certificate verify failed(?:: (.+?))?(?: \(_ssl|$)",
        "its certificate is not trusted: {}",
        "Add ?ssl_ca_certs=FILE, the certificate of its authority, to REDIS_URL, or set "
        "REDIS_TLS_VERIFY=no.",
    ),
    Cause(
        r"(?i)certificate.required|alert handshake failure",
        "it requires a client certificate",
        "Add ?ssl_certfile=FILE&ssl_keyfile=FILE to REDIS_URL.",
    ),
    Cause(
        r"UNEXPECTED_EOF|EOF occurred|closed \(EOF\)|Error (?:104|54) connecting",  # reset amid it
        "it ended the TLS handshake",
        f"Either its connections are used up (maxclients): stop some clients. Or: {_TLS_OR_NOT}",
        True,
    ),
    Cause(r"handshake operation timed out|\[SSL", "it does not speak TLS", _TLS_OR_NOT),
    Cause(r"InvalidResponse|Protocol Error", "the server there is not Redis", _TLS_OR_NOT),
    Cause(
        r"(?i)reset by peer|closed by server|broken pipe",
        "it closed the connection",
        f"If this happens every time: {_TLS_OR_NOT}",
        True,
    ),
    Cause(
        r"max number of clients",
        "all its connections are used up: maxclients is reached",
        "Start fewer processes (WORKERS, WEB_CONNECTIONS), or raise maxclients, or take a larger "
        "plan.",
        True,
    ),
    Cause(
        r"No connection available|MaxConnectionsError",
        "all connections of this process are in use",
        "Try again, or raise WEB_CONNECTIONS.",
        True,
    ),
    Cause(
        r"DENIED .*protected mode",
        "it is in protected mode: only clients on its own machine may connect",
        "Set a password on it (requirepass), and put it into REDIS_URL.",
    ),
    Cause(r"gaierror", "its host name cannot be resolved", "Check the host in REDIS_URL.", True),
    Cause(r"LOADING|BusyLoadingError", "it is still loading its data", _WAIT, True),
    Cause(
        r"READONLY|ReadOnlyError|mode replica|UNBLOCKED .*replica",
        "it is a read-only replica",
        "Set REDIS_URL to its primary.",
        True,
    ),
    Cause(r"MASTERDOWN|MasterDownError", "it has lost its primary", _WAIT, True),
    Cause(r"OOM |OutOfMemoryError", "its memory is full", "Raise its maxmemory.", True),
    Cause(r"UNBLOCKED ", "it has ended a wait", _WAIT, True),
    Cause(
        r"NoScriptError|NOSCRIPT",
        "it forgets scripts as soon as they are loaded",
        "Find out who sends SCRIPT FLUSH.",
        True,
    ),
    Cause(r"BUSY ", "it is running a long script", _WAIT, True),
    Cause(r"MISCONF", "it cannot write to its disk", "See its log.", True),
    Cause(r"NOREPLICAS", "it has too few replicas to write", "Start them.", True),
    Cause(r"TRYAGAIN|TryAgainError", "it is moving its keys", _WAIT, True),
)


def find(error: BaseException) -> Cause | None:
    """The cause of `error`, or of an error that led to it, with its `reason` filled in."""
    for one in chain(error):
        text = f"{type(one).__name__}: {one}"
        if "WRONGTYPE" in text:  # of a key; what else it says may be a name in it
            return None
        for cause in _CAUSES:
            if found := re.search(cause.pattern, text, re.DOTALL):
                return cause._replace(reason=cause.reason.format(*found.groups()))
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error of Redis or of the network, and those of these that it came from."""
    one: BaseException | None = error
    while isinstance(one, RedisError | OSError):
        yield one
        # What it had answered before is no cause of what follows.
        before = None if isinstance(one.__context__, ResponseError) else one.__context__
        one = one.__cause__ or before
