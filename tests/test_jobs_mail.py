"""Sending mail to a real SMTP server."""

import contextlib
import smtplib
import socket
import ssl
from email import message_from_bytes, policy

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from enqueue import enqueue
from jiffy.producer.queues import Queue
from jobs import mail

USER, PASSWORD = "ann@example.com", "p@ss: w/rd"
IN_URL = "ann%40example.com:p%40ss%3A%20w%2Frd"


class Mailbox:
    """What the server has taken; it refuses nobody@example.com."""

    def __init__(self):
        self.mails = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address == "nobody@example.com":
            return "550 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append((envelope, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"

    def only(self):
        [(_, message)] = self.mails
        return message


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def serve(authority):
    """Start a server, of the kind "starttls", "tls" or "clear"; return its mailbox and port."""
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(trust)
    with contextlib.ExitStack() as started:

        def start(kind, hostname="localhost"):
            mailbox = Mailbox()
            options = {
                "starttls": {"tls_context": trust, "require_starttls": True},
                "tls": {"ssl_context": trust},
                "clear": {},
            }[kind]
            server = Controller(
                mailbox, hostname=hostname, port=free_port(), authenticator=check_password,
                auth_required=kind == "starttls", auth_require_tls=kind == "starttls", **options,
            )  # fmt: skip
            server.start()
            started.callback(server.stop)
            return mailbox, server.port

        yield start


def check_password(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def starttls(serve, environ, ca_file):
    """A server with STARTTLS, to which SMTP_URL leads."""
    mailbox, port = serve("starttls")
    environ(SMTP_URL=f"smtp://{IN_URL}@localhost:{port}?ca={ca_file}")
    return mailbox


def test_a_mail_arrives_as_it_was_written(starttls):
    said = mail.send("Bob Böll <bob@example.com>", "Grüße", "Schöne Grüße\nAnn\n")
    message = starttls.only()

    assert message["To"] == "Bob Böll <bob@example.com>"
    assert (message["From"], message["Subject"]) == (USER, "Grüße")
    assert message.get_content().splitlines() == ["Schöne Grüße", "Ann"]
    assert message["Message-ID"] == said
    assert message["Date"].datetime.tzinfo is not None


def test_tls_from_the_first_byte(serve, environ, ca_file):
    mailbox, port = serve("tls")
    environ(SMTP_URL=f"smtps://localhost:{port}?ca={ca_file}", SMTP_FROM="Shop <shop@example.com>")
    mail.send("bob@example.com", "Hi", "…")

    assert mailbox.only()["From"] == "Shop <shop@example.com>"


def test_nothing_is_sent_in_the_clear_unless_asked_for(serve, environ):
    mailbox, port = serve("clear")
    environ(SMTP_URL=f"smtp://localhost:{port}", SMTP_FROM="shop@example.com")
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        mail.send("bob@example.com", "Hi", "…")
    assert mailbox.mails == []

    environ(SMTP_URL=f"smtp://localhost:{port}?tls=no")
    mail.send("bob@example.com", "Hi", "…")
    assert mailbox.only()["Subject"] == "Hi"


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_is_refused(serve, environ, kind):
    mailbox, port = serve(kind)
    scheme = "smtps" if kind == "tls" else "smtp"
    environ(SMTP_URL=f"{scheme}://{IN_URL}@localhost:{port}")
    with pytest.raises(ssl.SSLCertVerificationError):
        mail.send("bob@example.com", "Hi", "…")

    assert mailbox.mails == []


def test_a_certificate_of_another_host_is_refused(serve, environ, ca_file):
    _, port = serve("tls", hostname="127.0.0.1")
    environ(SMTP_URL=f"smtps://{IN_URL}@127.0.0.1:{port}?ca={ca_file}")
    with pytest.raises(ssl.SSLCertVerificationError):
        mail.send("bob@example.com", "Hi", "…")


def test_a_wrong_password_is_an_error(serve, environ, ca_file):
    mailbox, port = serve("starttls")
    environ(SMTP_URL=f"smtp://ann%40example.com:wrong@localhost:{port}?ca={ca_file}")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        mail.send("bob@example.com", "Hi", "…")

    assert mailbox.mails == []


def test_a_refused_recipient_is_an_error_that_names_it(starttls):
    with pytest.raises(
        smtplib.SMTPRecipientsRefused, match=r"nobody@example\.com.*No such mailbox"
    ):
        mail.send("nobody@example.com", "Hi", "…")


def test_with_one_recipient_refused_nobody_gets_the_mail(starttls):
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        mail.send(["bob@example.com", "nobody@example.com"], "Hi", "…")

    assert starttls.mails == []


def test_several_recipients_get_one_mail(starttls):
    mail.send(["bob@example.com", "Eve <eve@example.com>"], "Hi", "…")
    [(envelope, message)] = starttls.mails

    assert envelope.rcpt_tos == ["bob@example.com", "eve@example.com"]
    assert message["To"] == "bob@example.com, Eve <eve@example.com>"


@pytest.mark.parametrize(
    "to",
    [
        "", "bob", "bob@", "@example.com", "bob@example.com, eve@example.com",
        "bob@example.com\r\nBcc: eve@example.com", "bob@example.com eve@example.com", [],
    ],
)  # fmt: skip
def test_what_is_not_one_address_is_refused(starttls, to):
    with pytest.raises(ValueError, match=r"^to is "):
        mail.send(to, "Hi", "…")

    assert starttls.mails == []


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_no_header_can_be_smuggled_in_by_the_subject(starttls, end):
    with pytest.raises(ValueError, match="linefeed"):
        mail.send("bob@example.com", f"Hi{end}Bcc: eve@example.com", "…")

    assert starttls.mails == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_server_that_does_not_answer_is_a_timeout(environ, scheme):
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        environ(SMTP_URL=f"{scheme}://{IN_URL}@localhost:{port}?timeout=0.1")
        with pytest.raises(TimeoutError, match=f"localhost:{port} did not answer within 0.1 s"):
            mail.send("bob@example.com", "Hi", "…")


def test_without_a_server_set_it_says_what_to_set(environ):
    environ(SMTP_URL=None)
    with pytest.raises(LookupError, match=r"SMTP_URL is not set\. Set it to"):
        mail.send("bob@example.com", "Hi", "…")


def test_without_a_sender_it_says_what_to_set(environ):
    environ(SMTP_URL="smtp://apikey:secret@localhost", SMTP_FROM=None)
    with pytest.raises(LookupError, match="SMTP_FROM is not set"):
        mail.send("bob@example.com", "Hi", "…")


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cret@host", "smtp://", "smtp://ann:s3cret@host:port", "host:587",
        "smtp://ann:s3cret@host?tsl=no", "smtp://ann:s3cret@host?tls=maybe",
        "smtp://ann:s3cret@host?timeout=soon", "smtp://ann:s3cret@host?timeout=0",
        "smtp://ann:s3cret%C3%B6@host", "smtp://ann:s3cret/x@host",
        "smtp://ann:s3cret@host?ca=/nowhere.pem",
    ],
)  # fmt: skip
def test_an_address_of_a_server_that_cannot_be_is_refused_without_telling_the_password(
    environ, url
):
    environ(SMTP_URL=url)
    with pytest.raises(ValueError, match="SMTP_URL cannot be used") as refused:
        mail.send("bob@example.com", "Hi", "…")

    assert "s3cret" not in str(refused.value)


def test_run_again_as_the_same_job_a_mail_keeps_its_id(starttls, redis, work):
    job = enqueue(mail.send, "bob@example.com", "Hi", "…")
    work()
    Queue("default", connection=redis).enqueue_job(job)
    work()
    (_, first), (_, again) = starttls.mails

    assert first["Message-ID"] == again["Message-ID"] == job.return_value()


def send_two():
    for subject in ("Hi", "Bye"):
        mail.send("bob@example.com", subject, "…")


def test_two_mails_of_one_job_have_ids_of_their_own(starttls, redis, work, environ):
    environ(JOBS_MODULES="tests")
    Queue("default", connection=redis).enqueue(send_two)
    work()
    (_, first), (_, second) = starttls.mails

    assert first["Message-ID"] != second["Message-ID"]
