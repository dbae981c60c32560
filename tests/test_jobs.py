"""The jobs: called like any function, and run by a worker.  Copy what fits yours."""

import os
import smtplib
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from email import message_from_bytes, policy
from pathlib import Path
from shutil import copy

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from PIL import ExifTags, Image, UnidentifiedImageError

from enqueue import enqueue
from jiffy import keys
from jobs import cleanup, images, long, mail

SAMPLE = Path(__file__).parents[1] / "samples/photo.jpg"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
DAY_S = 24 * 60 * 60


@pytest.fixture
def folder(tmp_path, environ):
    """The folder in which jobs may read and write files."""
    environ(JOBS_FILES=str(tmp_path))
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# Pictures


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def saved(path, image, **options):
    image.save(path, **options)
    return str(path)


def four_colours(size=(80, 40)):
    small = Image.new("RGB", (2, 2))
    small.putdata([RED, GREEN, BLUE, WHITE])
    return small.resize(size, Image.Resampling.NEAREST)


def quarters(image):
    """The colours in the middle of the four quarters, in reading direction."""
    across, down = image.size
    places = [(x, y) for y in (0.25, 0.75) for x in (0.25, 0.75)]
    return [image.convert("RGB").getpixel((int(across * x), int(down * y))) for x, y in places]


@pytest.mark.usefixtures("redis")
def test_a_worker_resizes_the_sample_photo(folder, work):
    job = enqueue(images.resize, copy(SAMPLE, folder), 200, 150)
    work()

    assert job.return_value() == str(folder / "photo_200x150.jpg")
    assert opened(job.return_value()).size == (200, 150)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(200, None, (200, 100)), (None, 200, (400, 200)), (90, 90, (90, 90)), (1, None, (1, 1))],
)
def test_one_side_keeps_the_proportions_and_two_give_the_size(folder, width, height, size):
    path = saved(folder / "a.png", Image.new("RGB", (800, 400)))

    made = images.resize(path, width, height)

    assert opened(made).size == size
    assert Path(made).name == f"a_{size[0]}x{size[1]}.png"


def test_with_both_sides_given_the_middle_is_shown_undistorted(folder):
    wide = Image.new("RGB", (400, 100), RED)
    wide.paste(GREEN, (175, 25, 225, 75))  # a square in the middle

    made = opened(images.resize(saved(folder / "a.png", wide), 80, 80))

    green = made.getchannel("G").point([255 * (value > 127) for value in range(256)])
    assert green.getbbox() == (20, 20, 60, 60)


def test_a_photo_taken_sideways_stands_upright_and_does_not_say_where_it_was_taken(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn it a quarter to the right
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 24.0)
    path = saved(folder / "a.jpg", four_colours(), exif=exif, quality=100, icc_profile=b"profile")

    made = opened(images.resize(path, 40))

    assert made.size == (40, 80)
    for seen, expected in zip(quarters(made), [BLUE, RED, WHITE, GREEN], strict=True):
        assert seen == pytest.approx(expected, abs=40)
    assert (dict(made.getexif()), made.info["icc_profile"]) == ({}, b"profile")


@pytest.mark.parametrize(
    ("suffix", "mode", "made_suffix", "made_mode"),
    [
        ("jpg", "RGB", "jpg", "RGB"), ("jpg", "L", "jpg", "L"), ("jpg", "CMYK", "jpg", "RGB"),
        ("png", "RGBA", "png", "RGBA"), ("png", "I;16", "png", "I;16"), ("png", "P", "png", "RGB"),
        ("webp", "RGB", "webp", "RGB"), ("gif", "P", "png", "RGB"), ("tif", "CMYK", "png", "RGB"),
        ("bmp", "RGB", "png", "RGB"),
    ],
)  # fmt: skip
def test_jpeg_png_and_webp_stay_what_they_are_and_others_become_png(
    folder, suffix, mode, made_suffix, made_mode
):
    picture = Image.new("LA" if mode == "RGBA" else "L", (80, 40), 90).convert(mode)

    made = opened(images.resize(saved(folder / f"a.{suffix}", picture), 40))

    assert (Path(made.filename).name, made.mode) == (f"a_40x20.{made_suffix}", made_mode)


@pytest.mark.parametrize("sides", [(0, 5), (5, -1), (10_001, None), (None, 10_001), (None, None)])
def test_impossible_sides_are_refused_and_nothing_is_written(folder, sides):
    path = saved(folder / "a.png", Image.new("RGB", (8, 4)))

    with pytest.raises(ValueError, match=r"each side must be 1 to 10,000|give at least one"):
        images.resize(path, *sides)

    assert names_in(folder) == ["a.png"]


def test_a_file_that_is_not_a_picture_is_named(folder):
    (folder / "a.jpg").write_text("no picture")

    with pytest.raises(UnidentifiedImageError, match=r"a\.jpg"):
        images.resize(str(folder / "a.jpg"), 20)


def test_a_truncated_picture_leaves_nothing_behind(folder):
    (folder / "a.jpg").write_bytes(SAMPLE.read_bytes()[:10_000])

    with pytest.raises(OSError, match="truncated"):
        images.resize(str(folder / "a.jpg"), 200)

    assert names_in(folder) == ["a.jpg"]


# Clean-up


def aged(path, *, days):
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - days * DAY_S,) * 2)
    return path


@pytest.mark.usefixtures("redis")
def test_a_worker_deletes_resized_pictures_that_are_old(folder, work):
    aged(folder / "photo.jpg", days=1000)
    aged(folder / "photo_20x15.jpg", days=31)
    aged(folder / "photo_10x8.jpg", days=29)
    aged(folder / "2026/a.gif", days=31)
    aged(folder / "2026/a_5x4.png", days=31)
    aged(folder / ".unfinished-0123456789abcdef", days=31)  # left by a job that was killed

    job = enqueue(cleanup.resized, str(folder), days=30)
    work()

    assert job.return_value() == 3
    assert names_in(folder) == ["2026", "photo.jpg", "photo_10x8.jpg"]
    assert names_in(folder / "2026") == ["a.gif"]


@pytest.mark.parametrize(
    "name",
    [
        "other_20x15.jpg", "photo_20x15", "photo_0x15.jpg", "photo_020x15.jpg",
        "photo_20x15.jpg.txt", "photo-20x15.jpg", "photo_20x.jpg", "photo_123456x1.jpg",
        "_20x15.jpg", "photo 20x15.jpg", "notphoto_20x15.jpg", ".photo_20x15.jpg",
    ],
)  # fmt: skip
def test_no_other_name_is_ever_deleted(folder, name):
    aged(folder / "photo.jpg", days=1000)
    aged(folder / name, days=100)

    assert cleanup.resized(str(folder), 0.1) == 0
    assert name in names_in(folder)


def test_clean_up_neither_follows_nor_deletes_links(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    aged(elsewhere / "a.jpg", days=100)
    aged(elsewhere / "a_20x15.jpg", days=100)
    (folder / "link").symlink_to(elsewhere)
    (folder / "photo_20x15.jpg").symlink_to(elsewhere / "a.jpg")

    assert cleanup.resized(str(folder), 0) == 0


# Mail

USER, PASSWORD = "ann@example.com", "p@ss: w/rd"
IN_URL = "ann%40example.com:p%40ss%3A%20w%2Frd"


class Mailbox:
    """The mails that a server has accepted; it refuses nobody@example.com."""

    def __init__(self):
        self.mails = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address == "nobody@example.com":
            return "550 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


def check_password(server, session, envelope, mechanism, data):
    is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority, and the file that says so."""
    authority, path = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, path


@pytest.fixture
def serve(authority):
    """Start a server: "starttls", "tls" or "clear"; return its mailbox and port."""
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("localhost").configure_cert(trust)
    with ExitStack() as servers, socket.socket() as probe:

        def start(kind):
            mailbox = Mailbox()
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
            probe.close()
            options = {
                "starttls": {"tls_context": trust, "require_starttls": True},
                "tls": {"ssl_context": trust},
                "clear": {},
            }[kind]
            server = Controller(
                mailbox, hostname="localhost", port=port, authenticator=check_password,
                auth_required=kind == "starttls", auth_require_tls=kind == "starttls", **options,
            )  # fmt: skip
            server.start()
            servers.callback(server.stop)
            return mailbox.mails, port

        yield start


@pytest.fixture
def mails(serve, environ, authority):
    """What has arrived at the server that SMTP_URL names; it speaks STARTTLS."""
    mails, port = serve("starttls")
    environ(SMTP_URL=f"smtp://{IN_URL}@localhost:{port}?ca={authority[1]}")
    return mails


def test_a_mail_arrives_as_it_was_written(mails):
    message_id = mail.send(
        ["Bob Böll <bob@example.com>", "eve@example.com"], "Grüße", "Schöne Grüße\nAnn\n"
    )

    [message] = mails
    assert message["To"] == "Bob Böll <bob@example.com>, eve@example.com"
    assert (message["From"], message["Subject"]) == (USER, "Grüße")
    assert message.get_content().splitlines() == ["Schöne Grüße", "Ann"]
    assert message["Message-ID"] == message_id
    assert message["Date"].datetime.tzinfo is not None


def test_a_mail_keeps_its_id_when_the_job_runs_again(mails, redis, work):
    job = enqueue(mail.send, "bob@example.com", "Hi", "…")
    work()
    first_id = job.return_value()
    redis.lpush(keys.queue("default"), job.id)
    redis.hset(keys.job(job.id), "status", "queued")
    work()

    assert [message["Message-ID"] for message in mails] == [first_id] * 2


def test_nothing_is_sent_in_the_clear_unless_allowed(serve, environ):
    mails, port = serve("clear")
    environ(SMTP_URL=f"smtp://localhost:{port}", SMTP_FROM="shop@example.com")
    with pytest.raises(smtplib.SMTPNotSupportedError, match="STARTTLS"):
        mail.send("bob@example.com", "Hi", "…")
    assert mails == []

    environ(SMTP_URL=f"smtp://localhost:{port}?tls=no")
    mail.send("bob@example.com", "Hi", "…")
    assert mails[0]["From"] == "shop@example.com"


@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_a_certificate_of_an_unknown_authority_is_refused(serve, environ, authority, kind):
    mails, port = serve(kind)
    url = f"{'smtps' if kind == 'tls' else 'smtp'}://{IN_URL}@localhost:{port}"
    environ(SMTP_URL=url)
    with pytest.raises(ssl.SSLCertVerificationError):
        mail.send("bob@example.com", "Hi", "…")

    environ(SMTP_URL=f"{url.replace(f'{IN_URL}@', '')}?ca={authority[1]}", SMTP_FROM=USER)
    if kind == "tls":
        mail.send("bob@example.com", "Hi", "…")
    assert len(mails) == (kind == "tls")


def test_a_refused_recipient_is_an_error_that_names_it(mails):
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"nobody@example.*No such mailbox"):
        mail.send("nobody@example.com", "Hi", "…")


@pytest.mark.parametrize(
    "to",
    [
        "", "bob", "bob@", "@example.com", "bob@example.com, eve@example.com",
        "bob@example.com\r\nBcc: eve@example.com", "bob@example.com eve@example.com",
    ],
)  # fmt: skip
def test_what_is_not_one_address_is_refused(mails, to):
    with pytest.raises(ValueError, match="must be one address"):
        mail.send(to, "Hi", "…")


def test_a_subject_cannot_add_a_header(mails):
    with pytest.raises(ValueError, match="linefeed"):
        mail.send("bob@example.com", "Hi\r\nBcc: eve@example.com", "…")


def test_a_server_that_does_not_answer_is_a_timeout(environ):
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        environ(SMTP_URL=f"smtp://{IN_URL}@localhost:{port}?timeout=0.1")
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected), match="timed out"):
            mail.send("bob@example.com", "Hi", "…")


def test_a_server_whose_answer_never_ends_is_an_error(environ):
    def answer():
        with server.accept()[0] as sock, suppress(ConnectionError):
            while True:
                sock.sendall(b"220-Hi\r\n" * 100)

    with socket.create_server(("localhost", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        environ(SMTP_URL=f"smtp://{IN_URL}@localhost:{server.getsockname()[1]}")
        with pytest.raises(smtplib.SMTPServerDisconnected, match="over 100 lines"):
            mail.send("bob@example.com", "Hi", "…")
        thread.join()


@pytest.mark.parametrize("values", [{}, {"SMTP_URL": "smtp://apikey:secret@localhost"}])
def test_without_a_server_or_a_sender_it_says_what_to_set(environ, values):
    environ(**{"SMTP_URL": None, "SMTP_FROM": None} | values)
    with pytest.raises(LookupError, match="SMTP_URL or SMTP_FROM is not set"):
        mail.send("bob@example.com", "Hi", "…")


@pytest.mark.parametrize("end", ["host:port", "host/x", "host?timeout=soon", "x/y@host"])
@pytest.mark.parametrize("scheme", ["smtp", "http"])
def test_an_unusable_smtp_url_is_refused_without_showing_the_password(environ, scheme, end):
    environ(SMTP_URL=f"{scheme}://ann:s3cret/@{end}", SMTP_FROM=USER)
    with pytest.raises(ValueError, match="SMTP_URL cannot be used") as refused:
        mail.send("bob@example.com", "Hi", "…")

    assert "s3cret" not in str(refused.value)


# Taking its time


def test_a_string_is_spelled():
    assert long.spell("abc", pause_s=0) == "a-b-c"
