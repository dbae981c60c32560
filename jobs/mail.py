"""Mail, through the server that SMTP_URL names.

    SMTP_URL=smtp://user:password@mail.example.com:587     STARTTLS, without which nothing is sent
    SMTP_URL=smtps://user:password@mail.example.com:465    TLS from the first byte
    SMTP_FROM="The shop <shop@example.com>"                the sender, if not the URL's user

At its end SMTP_URL takes `?tls=no` (send in the clear, for a server on this machine), `?ca=FILE`
(the authority that signed the server's certificate) and `?timeout=SECONDS` (30 for each answer).
Signs such as @ in the user or password are written %40 and so on.
"""

import os
import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.utils import make_msgid
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from rq import get_current_job

from jiffy import progress

HEADERS = HeaderRegistry()


def send(to: str | list[str], subject: str, body: str) -> str:
    """Send a plain text to one address or several; return the mail's Message-ID.

    It is sent to all of them or to none.  Run again as the same job, the mail has the same
    Message-ID, so that the receiving side can tell that it has it already.

    Raises smtplib.SMTPRecipientsRefused (and smtplib's other errors) if the server refuses,
    TimeoutError if it does not answer, ssl.SSLError if its certificate is not to be trusted,
    ValueError for an address that is none or a subject of several lines, and LookupError if
    SMTP_URL or a sender is not set.
    """
    server = _Server.from_environ(os.environ)
    message = _message(to, subject, body, server.sender)
    progress.update(0.1, f"connecting to {server.host}")
    try:
        with server.session() as session:
            progress.update(0.5, "sending")
            session.send_message(message)
    except (TimeoutError, smtplib.SMTPServerDisconnected) as error:
        if not _timed_out(error):
            raise
        said = f"{server.host}:{server.port} did not answer within {server.timeout_s:g} s."
        raise TimeoutError(said) from error
    return str(message["Message-ID"])


class _Session(smtplib.SMTP):
    """A connection on which one refused recipient stops the mail to all."""

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        code, answer = super().rcpt(recip, options)
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({recip: (code, answer)})
        return code, answer


class _TlsSession(_Session, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


@dataclass(frozen=True)
class _Server:
    """A mail server and how to talk to it: what SMTP_URL and SMTP_FROM say."""

    host: str
    port: int
    tls: str  # "first", "start" or "no"
    user: str
    password: str = field(repr=False)
    sender: str
    ca_file: str | None
    timeout_s: float

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "_Server":
        """Raises LookupError for what is not set, ValueError for what cannot be used."""
        url = environ.get("SMTP_URL", "").strip()
        if not url:
            must = "Set it to your mail server, as smtp://user:password@mail.example.com:587."
            raise LookupError(f"SMTP_URL is not set. {must}")
        try:
            return cls._from_url(url, environ.get("SMTP_FROM", "").strip())
        except ValueError as error:  # never shows the URL: it holds the password
            must = "It must be as smtp://user:password@host:587 or smtps://user:password@host:465"
            raise ValueError(f"SMTP_URL cannot be used: {error}. {must}.") from None

    @classmethod
    def _from_url(cls, url: str, sender: str) -> "_Server":
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("it names no smtp:// or smtps:// server")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not (user + password).isascii():
            raise ValueError("its user or password is not ASCII, all that smtplib can send")
        implicit = parts.scheme == "smtps"
        asked = _asked(parts.query)
        return cls(
            host=parts.hostname,
            port=_port(parts) or (465 if implicit else 587),
            tls="first" if implicit else "no" if asked["tls"] == "no" else "start",
            user=user,
            password=password,
            sender=sender or user,
            ca_file=asked["ca"] or None,
            timeout_s=float(asked["timeout"]),
        )

    @contextmanager
    def session(self) -> Iterator[smtplib.SMTP]:
        """A connection to the server, encrypted as wished and logged in."""
        trust = ssl.create_default_context(cafile=self.ca_file)
        opened: smtplib.SMTP
        if self.tls == "first":
            opened = _TlsSession(self.host, self.port, timeout=self.timeout_s, context=trust)
        else:
            opened = _Session(self.host, self.port, timeout=self.timeout_s)
        with opened:
            if self.tls == "start":
                opened.starttls(context=trust)
            if self.user:
                opened.login(self.user, self.password)
            yield opened


def _asked(query: str) -> dict[str, str]:
    """The options at the end of SMTP_URL, with those that are not given."""
    asked = {"tls": "yes", "ca": "", "timeout": "30"}
    for name, values in parse_qs(query).items():
        if name not in asked:
            raise ValueError(f"it has no option '{name}', only {', '.join(asked)}")
        asked[name] = values[-1]
    if asked["tls"] not in ("yes", "no"):
        raise ValueError("its option 'tls' is neither yes nor no")
    if asked["ca"] and not Path(asked["ca"]).is_file():
        raise ValueError(f"its option 'ca' is '{asked['ca']}', where there is no file")
    if not re.fullmatch(r"\d+(\.\d+)?", asked["timeout"]) or not float(asked["timeout"]):
        raise ValueError("its option 'timeout' is not a number of seconds above 0")
    return asked


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # its text could show a part of a password with an unescaped slash
        raise ValueError("its port is not one; write / in a password as %2F") from None


def _message(to: str | list[str], subject: str, body: str, sender: str) -> EmailMessage:
    if "@" not in sender:
        raise LookupError("SMTP_FROM is not set. Set it to the address that mail is sent from.")
    message = EmailMessage()
    if not to:
        raise ValueError("to is empty; give at least one address.")
    author = _address("SMTP_FROM", sender)
    message["From"] = author
    message["To"] = [_address("to", one) for one in ([to] if isinstance(to, str) else to)]
    message["Subject"] = subject
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = _message_id(message, body, author.domain)
    message.set_content(body)
    return message


def _address(name: str, text: str) -> Address:
    """The one address in `text`, which cannot smuggle in another, nor a header."""
    try:
        found: Any = HEADERS("to", text if text.isprintable() else "")
    except IndexError:  # the parser's answer to "ann@"
        found = HEADERS("to", "")
    addresses: tuple[Address, ...] = () if found.defects else found.addresses
    if len(addresses) != 1 or not (addresses[0].username and addresses[0].domain):
        must = "one address, such as ann@example.com or Ann <ann@example.com>"
        raise ValueError(f"{name} is {text!r}; it must be {must}.")
    return addresses[0]


def _message_id(message: EmailMessage, body: str, domain: str) -> str:
    """An id that is the same whenever a job sends the same mail again, and else a new one."""
    job = get_current_job()
    if job is None:
        return make_msgid(domain=domain)
    same = "\0".join([job.id, message["To"], message["Subject"], body])
    return f"<{sha256(same.encode()).hexdigest()[:32]}@{domain}>"


def _timed_out(error: Exception) -> bool:
    # smtplib hides a time-out while it waits for an answer behind an error of its own.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
