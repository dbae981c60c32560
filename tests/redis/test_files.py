"""Jobs read, write and delete nothing outside JOBS_FILES, whatever path they are given."""

import os
import threading
from contextlib import suppress

import pytest
from PIL import Image

from enqueue import enqueue
from jiffy.files import open_file, open_folder, whole_file
from jobs import cleanup, images, reports

OLD = (0, 0)


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
    os.utime(folder / "photo_20x15.jpg", OLD)
    return folder


@pytest.fixture
def way_out(request, inside, outside):
    """A path that leads to `outside` in one of the ways there are."""
    if request.param == "absolute":
        return str(outside)
    if request.param == "relative":
        return os.path.relpath(outside)
    if request.param == "dots":
        return f"{inside}/folder/../../outside"
    (inside / "link").symlink_to(outside)
    return {"link": f"{inside}/link", "dots behind a link": f"{inside}/link/../outside"}[
        request.param
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    "way_out", ["absolute", "relative", "dots", "link", "dots behind a link"], indirect=True
)
def test_no_job_leaves_the_folder(work, outside, way_out):
    before = contents(outside)
    jobs = [
        enqueue(reports.last_day, f"{way_out}/page.html"),
        enqueue(reports.last_day, f"{way_out}/new.csv"),
        enqueue(images.resize, f"{way_out}/photo.jpg", 10),
        enqueue(cleanup.resized, way_out, 1),
    ]
    work()

    assert contents(outside) == before
    # Dots are worked out before anything is opened: behind a link they mean its own folder.
    reason = "No such file" if "/link/.." in way_out else "JOBS_FILES"
    for job in jobs:
        assert reason in job.latest_result().exc_string.splitlines()[-1]


def test_the_folder_above_and_one_with_a_longer_name_are_outside(inside):
    longer = inside.with_name("files-of-others")
    longer.mkdir()
    (longer / "a.txt").write_text("")
    for path in (longer / "a.txt", inside.parent, "/", "/etc/passwd"):
        with pytest.raises(ValueError, match=r"is not below JOBS_FILES, which is '.*/files'"):
            open_file(path)


def test_a_picture_that_is_a_link_is_not_read(inside, outside):
    (inside / "photo.jpg").symlink_to(outside / "photo.jpg")
    with pytest.raises(
        ValueError, match=r"links below JOBS_FILES are not followed, and 'photo.jpg'"
    ):
        images.resize(str(inside / "photo.jpg"), 10)

    assert sorted(path.name for path in inside.iterdir()) == ["folder", "photo.jpg"]


def test_a_link_that_stands_where_a_file_is_written_is_replaced(inside, outside):
    (inside / "page.html").symlink_to(outside / "page.html")
    with whole_file(inside / "page.html") as file:
        file.write(b"new")

    assert (outside / "page.html").read_text() == "a page"
    assert (inside / "page.html").read_text() == "new"


@pytest.mark.parametrize("mode", ["w", "a", "x", "r+"])
def test_nothing_is_written_through_a_link(inside, outside, mode):
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
        folder, aside, link = (inside / name for name in ("folder", "aside", "link"))
        while not is_over.is_set():
            folder.rename(aside)
            link.rename(folder)
            folder.rename(link)
            aside.rename(folder)

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


def test_the_folder_itself_may_be_a_link(inside, tmp_path, environ):
    (inside / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to(inside)
    environ(JOBS_FILES=str(tmp_path / "link"))

    with open_file(tmp_path / "link" / "folder" / ".." / "a.txt") as file:
        assert file.read() == "a"


def test_a_relative_path_starts_where_the_process_does(inside, monkeypatch, environ):
    monkeypatch.chdir(inside.parent)
    environ(JOBS_FILES="files/")
    with whole_file("files/a.txt") as file:
        file.write(b"a")
    with open_file("files/a.txt", encoding="utf-8") as file:
        assert file.read() == "a"
    with pytest.raises(ValueError, match=r"'a\.txt' is not below JOBS_FILES, which is 'files/'"):
        open_file("a.txt")
    with pytest.raises(ValueError, match="'' is not below JOBS_FILES"):
        open_file("")


@pytest.mark.parametrize("open_it", [open_file, open_folder])
def test_what_is_not_there_is_named_as_it_was_given(inside, open_it):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/gone/a'"):
        open_it(inside / "gone" / "a")


def test_without_the_folder_the_error_names_the_setting(environ, tmp_path):
    environ(JOBS_FILES=str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"JOBS_FILES is '.*gone'; there is no such folder"):
        open_file(tmp_path / "gone" / "a.txt")


@pytest.mark.parametrize("call", [open_file, open_folder, whole_file])
def test_a_number_is_never_taken_for_an_open_file(inside, call):
    with pytest.raises(TypeError):
        call(0).__enter__()


def test_nothing_stays_open(inside):
    (inside / "a.txt").write_text("a")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - a Path would open it once more
    for name in ("a.txt", "gone", "gone/a", "../a", "folder/a.txt"):
        with suppress(OSError, ValueError), open_file(inside / name):
            pass
        with suppress(OSError, ValueError), whole_file(inside / name):
            raise ValueError

    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
