"""Mail, through the server that SMTP_URL names.

    SMTP_URL=smtp://user:password@mail.example.com:587     STARTTLS, without which nothing is sent
    SMTP_URL=smtps://user:password@mail.example.com:465    TLS from the first byte
    SMTP_FROM="The shop <shop@example.com>"                the sender, if not the URL's user

At its end SMTP_URL takes `?tls=no` (send in the clear, to a server on this machine), `?ca=FILE`
(the authority that signed the server's certificate) and `?timeout=SECONDS` (30 for each answer).
Special characters in the user or password are percent-encoded: @ is %40.
"""

import os
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from hashlib import sha256
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from rq import get_current_job

from jiffy import progress

_MOST_LINES = 100  # of an answer


def send(to: str | list[str], subject: str, body: str) -> str:
    """Send a plain text to one address or several; return the mail's Message-ID.

    It is the same when the same job runs again, so that the receiving side knows the mail.  Raises
    smtplib's errors if the server refuses, ssl.SSLError if its certificate is not trusted,
    ValueError for an address that is not one, and LookupError if SMTP_URL or a sender is not set.
    """
    url = os.environ.get("SMTP_URL", "")
    sender = os.environ.get("SMTP_FROM") or unquote(urlsplit(url).username or "")
    if not url or "@" not in sender:
        raise LookupError("SMTP_URL or SMTP_FROM is not set; .env.example shows both.")
    message = _message(sender, [to] if isinstance(to, str) else to, subject, body)
    progress.update(0.1, "connecting")
    with _session(url) as session:
        progress.update(0.5, "sending")
        if refused := session.send_message(message):
            raise smtplib.SMTPRecipientsRefused(refused)
    return str(message["Message-ID"])


def _message(sender: str, to: list[str], subject: str, body: str) -> EmailMessage:
    message, author, job = EmailMessage(), _address(sender), get_current_job()
    message["From"], message["To"] = author, [_address(one) for one in to]
    message["Subject"], message["Date"] = subject, localtime()
    same = "\0".join([job.id if job else make_msgid(), message["To"], subject, body])
    message["Message-ID"] = f"<{sha256(same.encode()).hexdigest()[:32]}@{author.domain}>"
    message.set_content(body)
    return message


def _address(text: str) -> Address:
    """The one address in `text`, which cannot smuggle in another, nor a header."""
    try:
        header: Any = HeaderRegistry()("to", text if text.isprintable() else "")
        address: Address
        [address] = header.addresses if not header.defects else []
    except (IndexError, ValueError):  # the parser raises IndexError for "ann@"
        must = "such as ann@example.com or Ann <ann@example.com>"
        raise ValueError(f"{text!r} must be one address, {must}.") from None
    return address


class _Answer:
    """The lines that a server sends; smtplib would keep all of an answer that never ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self.left, self.close, self._readline = 0, file.close, file.readline

    def readline(self, most_bytes: int) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError(f"the server's answer has over {_MOST_LINES} lines")
        return self._readline(most_bytes)


class _SMTP(smtplib.SMTP):
    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock:
            self.file = _Answer(self.sock.makefile("rb"))
        if self.file:
            self.file.left = _MOST_LINES
        return super().getreply()


class _SMTPS(_SMTP, smtplib.SMTP_SSL): ...


@contextmanager
def _session(url: str) -> Iterator[smtplib.SMTP]:
    """Connect, encrypt and log in.  No error shows the URL: it has the password."""
    try:
        server = urlsplit(url)
        options = {"tls": "yes", "ca": "", "timeout": "30"} | dict(parse_qsl(server.query))
        where = (server.hostname or "", server.port or {"smtp": 587, "smtps": 465}[server.scheme])
        timeout_s = float(options["timeout"])
    except (KeyError, ValueError):
        must = "smtp://user:password@host:587 or smtps://user:password@host:465"
        raise ValueError(f"SMTP_URL cannot be used; it must be {must}.") from None
    trust = ssl.create_default_context(cafile=options["ca"] or None)
    if server.scheme == "smtps":
        connection: smtplib.SMTP = _SMTPS(*where, timeout=timeout_s, context=trust)
    else:
        connection = _SMTP(*where, timeout=timeout_s)
    with connection as session:
        if server.scheme == "smtp" and options["tls"] != "no":
            session.starttls(context=trust)
        if server.username:
            session.login(unquote(server.username), unquote(server.password or ""))
        yield session
