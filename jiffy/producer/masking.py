"""Secrets: what is named like one, and those in URLs, are masked wherever a call is shown."""

import math
import re
from functools import lru_cache
from typing import Any

MASK = "***"
_PLAIN = (bool, int, float, str, type(None))
_HARMLESS = (bool, type(None))
_RESULT = {"jiffy:result"}  # what stands for a result that is not there yet (payload.py)
_SECRET = re.compile(
    r"passw|pass_?(word|phrase|code)|secret|credential|conn(ection)?_?str(ing)?(_|$)"
    r"|session_?(id|key)|(api|priv(ate)?|access|(en|de)crypt(ion)?|signing|master|hmac|ssh|deploy"
    r"|rsa|gpg|pgp|cert|shared|account|service_account)_?key"
    r"|(^|_)(aes|auth|enc|licen[cs]e|sign|ssl|stripe|tls|wallet|webhook)_?key(_|$)"
    r"|card_?number|credit_?card|(^|_)(card_?(no|num)|cc_?num)(_|$)|kubeconfig|id_rsa"
    r"|(seed|recovery)_?(phrase|words)|mnemonic"
    r"|(auth|access|verification|security|recovery|backup|mfa|sms|login|one_?time)_?code"
    r"|(tokens?|pwds?)\d*(_|$)"
    r"|(^|_)(pin|t?otp|cv[vc]2?|ssn|authorization|jwt|bearer|cookies?|dsn)(_|$)"
    r"|(^|_)(pw|creds?|psk|pem|keytab|iban|sig|signature)(_|$)"
    r"|(^|_)o?auth(_?header)?$|(^|db|database|smtp|mail|ftp|proxy|redis|user)_?pass$"
    r"|(?<!boarding)(?<!first)(?<!second)(?<!one)(?<!two)(?<!low)(?<!high)(?<!band)(?<!all)_pass$"
)
# A password, or what stands alone before a host, such as a key; also of a URL that is cut short.
_URL_PASSWORD = re.compile(
    r"(://[^\s/?#@:]*:|(?<=http)://|(?<=https)://)[^\s/?#]+(?=@)"
    r"|(://[^\s/?#@:]*:)(?!\d{1,5}\b)[^\s/?#@]+?(?=\.\.\.|…)"
)
_URL_PARAMETER = re.compile(r"([?&;#]([\w-]{1,100})=)[^\s&#'\"]+")
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
_NAME = re.compile(r"(?<![\w-])([\w-]{1,100})(?:=|['\"]: ?)")
_END = r"(?=[,)}\]]|$)"
_VALUE = re.compile(
    rf"""b?'(?:[^'\\]|\\.)*'{_END}|b?"(?:[^"\\]|\\.)*"{_END}|[\w.+*-]+{_END}|.*""", re.DOTALL
)


def is_secret(name: str) -> bool:
    """Whether a value of this name must not be seen: password, token, api_key …"""
    # Anyone may have sent a name: long ones would fill the memory.
    return (_is_secret if len(name) <= 100 else _is_secret.__wrapped__)(name)


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return _SECRET.search(_NEW_WORD.sub("_", name).lower()) is not None


def masked(value: Any, *, is_secret_itself: bool = False) -> Any:
    """`value` as it may be shown; in dicts and lists, what has a secret's name is masked."""
    if is_secret_itself:
        return value if isinstance(value, _HARMLESS) else Masked(MASK)
    if isinstance(value, _PLAIN):
        return _without_passwords(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        if value.keys() == _RESULT:
            return value
        return {
            key: masked(inner, is_secret_itself=isinstance(key, str) and is_secret(key))
            for key, inner in value.items()
        }
    return type(value)(map(masked, value)) if type(value) in (list, tuple) else value


def masked_text(call: str) -> str:
    """A description of a call, as stock RQ writes it: `name='…'` is masked if it names a secret.

    Where a value does not end as strings and numbers do, all that follows is masked with it.
    """
    shown, end = list[str](), 0
    for found in _NAME.finditer(call):
        if found.start() < end or not is_secret(found[1]):
            continue
        value = _VALUE.match(call, found.end())
        assert value is not None  # its last alternative is anything
        if value[0] not in ("True", "False", "None"):
            shown += call[end : found.end()], MASK
            end = value.end()
    return _without_passwords("".join([*shown, call[end:]]))


def _without_passwords(text: str) -> str:
    """The same, with a mask in place of the secrets in each URL."""
    if "://" not in text:
        return text
    without = _URL_PASSWORD.sub(lambda found: f"{found[1] or found[2]}{MASK}", text)
    return _URL_PARAMETER.sub(
        lambda found: f"{found[1]}{MASK}" if is_secret(found[2]) else found[0], without
    )


class Masked(str):
    """The mask, which is shown without the quotes of a string."""

    __slots__ = ()
    __repr__ = str.__str__


def is_secret_place(places: str, number: int) -> bool:
    """Whether a positional argument is a secret, by a job's hash: "0,3-" is 0, and 3 and on."""
    some, onward = _places(places)
    return number >= onward or str(number) in some


@lru_cache(maxsize=256)
def _places(places: str) -> tuple[frozenset[str], float]:
    parts = places.split(",")
    onward = [int(part[:-1]) for part in parts if part[-1:] == "-" and part[:-1].isdecimal()]
    return frozenset(parts), min(onward, default=math.inf)
