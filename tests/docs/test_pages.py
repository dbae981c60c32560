"""The guides keep their word: all that they say to type is typed, and does what they say."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from PIL import Image

from jiffy import cli
from jiffy.producer.options import TABLE
from tests.docs import follow
from tests.support.newcomer import CHECKOUT
from tests.support.ports import free_port

PAGES = sorted((CHECKOUT / "docs").glob("*.md"))
WITH_CODE = ("isolation", "enqueue", "hooks", "schedule", "from-celery", "from-rq", "types")
GUIDES = [page for page in PAGES if page.stem in WITH_CODE]
PROJECT = ("enqueue.py", "worker.py", "scheduler.py", "dashboard.py", "jobs", "examples")
PATIENCE_S = 300


def name_of(page):
    return page.name


@pytest.fixture
def project(tmp_path):
    """A folder as one has it who began with this project, with a photo of theirs."""
    for name in PROJECT:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, tmp_path / name)
    for name in ("jiffy", "tests"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (400, 300)).save(tmp_path / "samples" / "photo.jpg")
    return tmp_path


@pytest.fixture
def mail_server():
    """The address of a server that takes all mail."""
    server = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield f"smtp://127.0.0.1:{server.port}?tls=no"
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S + 60)
@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_everything_on_the_page_can_be_typed_word_by_word(page, project, mail_server):
    port = free_port(beside=100)
    copy = project / page.name
    copy.write_text(on_ports(page.read_text(), port))
    (project / ".env").write_text("PORT=8000\n")  # as newcomers have it
    ports = {"TASKS_PORT": f"{port}", "ADDING_PORT": f"{port + 100}"}
    typed = subprocess.Popen(
        [sys.executable, follow.__file__, copy],
        cwd=project, env=environ(project, mail_server) | ports, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = typed.communicate(timeout=PATIENCE_S)
    finally:
        if typed.poll() is None:
            os.killpg(typed.pid, signal.SIGKILL)

    assert typed.returncode == 0, said


def on_ports(text, port):
    """The page as it is where 5000 and 5100 may be taken."""
    return text.replace(":5000/", f":{port}/").replace(":5100/", f":{port + 100}/")


def environ(project, mail_server):
    paths = [str(Path(sys.prefix, "bin")), os.environ["PATH"]]
    mail = {"SMTP_URL": mail_server, "SMTP_FROM": "shop@example.com"}
    return os.environ | mail | {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(project)}


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_a_page_shows_each_file_once(page):
    files = Counter(block.file for block in follow.blocks(page.read_text()) if block.file)

    assert set(files.values()) <= {1}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text())
    targets = [((page.parent / name) if name else page, heading) for name, heading in links]

    assert [target for target, _ in targets if not target.exists()] == []
    assert [
        heading for target, heading in targets if heading and heading not in headings(target)
    ] == []


def headings(page):
    """The headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_table_of_enqueue_is_that_of_the_options():
    page = (CHECKOUT / "docs" / "enqueue.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \|(?: `(--.+?)`)? \| (.*?) \|(?: (.*))? \|$", page, re.MULTILINE
    )
    flags = {flag for one in cli.load("enqueue").params for flag in one.opts if "--" in flag}

    assert [(name, meaning, otherwise) for name, _, meaning, otherwise in rows] == [
        (name, option.meaning, option.otherwise) for name, option in TABLE.items()
    ]
    for name, shell, *_ in rows:
        assert shell.startswith(f"{TABLE[name].flag} {TABLE[name].example}".strip())
    assert set(re.findall(r"--[a-z][a-z-]*", page[: page.index("## When")])) == flags


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_a_figure_stands_on_the_page_that_the_line_links_to(page):
    for line in page.read_text().splitlines():
        for source in re.findall(r"\]\(((?:performance|reliability)\.md)\)", line):
            figures = set(re.findall(r"\d[\d,]*\d", line.replace("https:", "")))

            assert figures <= set(re.findall(r"\d[\d,]*\d", (page.parent / source).read_text()))
