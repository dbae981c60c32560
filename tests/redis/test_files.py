"""Jobs read, write and delete nothing outside JOBS_FILES, whatever path they are given."""

import gc
import os
import threading
from contextlib import suppress

import pytest
from PIL import Image

from enqueue import enqueue
from jiffy.files import open_file, open_folder, whole_file
from jobs import cleanup, images, reports


@pytest.fixture
def inside(tmp_path, environ):
    """JOBS_FILES, with a folder in it."""
    (tmp_path / "files" / "folder").mkdir(parents=True)
    environ(JOBS_FILES=str(tmp_path / "files"))
    return tmp_path / "files"


@pytest.fixture
def outside(tmp_path):
    """A folder beside it, with what the jobs would read, overwrite and delete."""
    folder = tmp_path / "outside"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "photo.jpg")
    Image.new("RGB", (20, 15)).save(folder / "photo_20x15.jpg")
    (folder / "page.html").write_text("a page")
    os.utime(folder / "photo_20x15.jpg", (0, 0))
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("way_out", "reason"),
    [
        ("{outside}", "JOBS_FILES"),
        ("{relative}", "JOBS_FILES"),
        ("{inside}/folder/../../outside", "JOBS_FILES"),
        ("{inside}/link", "JOBS_FILES"),
        # Dots are resolved before anything is opened: behind a link they mean its own folder.
        ("{inside}/link/../outside", "No such file"),
    ],
)
def test_no_job_leaves_the_folder(work, inside, outside, way_out, reason):
    (inside / "link").symlink_to(outside)
    way_out = way_out.format(inside=inside, outside=outside, relative=os.path.relpath(outside))
    before = contents(outside)
    jobs = [
        enqueue(reports.last_day, f"{way_out}/page.html"),
        enqueue(images.resize, f"{way_out}/photo.jpg", 10),
        enqueue(cleanup.resized, way_out, 1),
    ]
    work()

    assert contents(outside) == before
    for job in jobs:
        assert reason in job.latest_result().exc_string.splitlines()[-1]


def test_the_folder_above_and_one_with_a_longer_name_are_outside(inside):
    longer = inside.with_name("files-of-others")
    longer.mkdir()
    (longer / "a.txt").write_text("")
    for path in (longer / "a.txt", inside.parent, "/", "/etc/passwd"):
        with pytest.raises(ValueError, match=r"is not below JOBS_FILES, which is '.*/files'"):
            open_file(path)


def test_a_link_that_stands_where_a_file_is_written_is_replaced(inside, outside):
    (inside / "page.html").symlink_to(outside / "page.html")
    with whole_file(inside / "page.html") as file:
        file.write(b"new")

    assert (outside / "page.html").read_text() == "a page"
    assert (inside / "page.html").read_text() == "new"


@pytest.mark.parametrize("mode", ["r", "w", "a", "x", "r+"])
def test_no_file_is_opened_through_a_link(inside, outside, mode):
    (inside / "page.html").symlink_to(outside / "page.html")
    (inside / "new.html").symlink_to(outside / "new.html")
    for name in ("page.html", "new.html"):
        with pytest.raises(ValueError, match="links below JOBS_FILES are not followed"):
            open_file(inside / name, mode)

    assert (outside / "page.html").read_text() == "a page"
    assert not (outside / "new.html").exists()


def test_a_link_that_takes_a_folders_place_while_a_file_is_written_leads_nowhere(inside, outside):
    before = contents(outside)
    with whole_file(inside / "folder" / "page.html") as file:
        file.write(b"new")
        (inside / "folder").rename(inside / "moved")
        (inside / "folder").symlink_to(outside)

    assert contents(outside) == before
    assert contents(inside / "moved") == {"page.html": b"new"}


def test_a_folder_that_is_a_link_every_other_moment_never_leads_out(inside, outside):
    (inside / "folder" / "page.html").write_text("inside")
    (inside / "link").symlink_to(outside)
    is_over = threading.Event()

    def swap():
        folder, other, link = (inside / name for name in ("folder", "other", "link"))
        while not is_over.is_set():
            folder.rename(other)
            link.rename(folder)
            folder.rename(link)
            other.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(3000):
            with suppress(OSError, ValueError), open_file(inside / "folder" / "page.html") as file:
                seen.add(file.read())
    finally:
        is_over.set()
        swapping.join()

    assert seen <= {"inside"}


def test_the_folder_may_be_a_link_and_a_relative_path(inside, tmp_path, monkeypatch, environ):
    (tmp_path / "link").symlink_to(inside)
    monkeypatch.chdir(tmp_path)
    environ(JOBS_FILES="link/")
    with whole_file("link/folder/../a.txt") as file:
        file.write(b"a")

    with open_file(tmp_path / "link" / "a.txt") as file:
        assert file.read() == "a"
    for path in ("a.txt", ""):
        with pytest.raises(ValueError, match=f"'{path}' is not below JOBS_FILES, which is 'link/'"):
            open_file(path)


@pytest.mark.parametrize("call", [open_file, open_folder])
def test_what_is_missing_is_named_as_it_was_given(inside, environ, call):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/gone/a'"):
        call(inside / "gone" / "a")
    environ(JOBS_FILES=f"{inside}-gone")
    with pytest.raises(FileNotFoundError, match=r"JOBS_FILES is '.*gone'"):
        call(f"{inside}-gone/a.txt")


@pytest.mark.parametrize("call", [open_file, open_folder, whole_file])
def test_a_number_is_not_an_open_file(inside, call):
    with pytest.raises(TypeError):
        call(0).__enter__()


def test_no_file_stays_open(inside):
    (inside / "a.txt").write_text("a")
    gc.collect()  # what earlier tests have left open
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - a Path would open it once more
    for name in ("a.txt", "gone", "gone/a", "../a", "folder/a.txt"):
        with suppress(OSError, ValueError), open_file(inside / name):
            pass
        with suppress(OSError, ValueError), whole_file(inside / name):
            raise ValueError

    assert len(os.listdir("/dev/fd")) <= before  # noqa: PTH208
