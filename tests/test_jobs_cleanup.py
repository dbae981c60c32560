"""Deleting resized pictures that are old."""

import os
import time

import pytest
from PIL import Image

from enqueue import enqueue
from jobs import cleanup
from jobs.images import resize

DAY_S = 24 * 60 * 60


@pytest.fixture(autouse=True)
def jobs_files(tmp_path, environ):
    environ(JOBS_FILES=str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    """A folder with one original, as old as can be."""
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.jpg")
    age(tmp_path / "photo.jpg", days=1000)
    return tmp_path


def age(path, *, days):
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return path


def put(path, *, days=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("…")
    return age(path, days=days)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_resize_made_is_deleted_when_it_is_old(folder):
    age(resize(str(folder / "photo.jpg"), 20), days=31)
    age(resize(str(folder / "photo.jpg"), 10), days=29)

    assert cleanup.resized(str(folder), 30) == 1
    assert names_in(folder) == ["photo.jpg", "photo_10x8.jpg"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp", "jp2", "ppm", "tga"])
def test_the_names_that_resize_gives_are_known_for_every_format(tmp_path, suffix):
    Image.new("RGB", (40, 30)).save(tmp_path / f"my photo.{suffix}")
    age(resize(str(tmp_path / f"my photo.{suffix}"), 20), days=31)

    assert cleanup.resized(str(tmp_path)) == 1
    assert names_in(tmp_path) == [f"my photo.{suffix}"]


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg", "other_20x15.jpg", "photo_20x15", "photo_0x15.jpg", "photo_020x15.jpg",
        "photo_20x15.jpg.txt", "photo-20x15.jpg", "photo_20x.jpg", "photo_123456x1.jpg",
        "_20x15.jpg", "photo 20x15.jpg", "notphoto_20x15.jpg", ".photo_20x15.jpg",
    ],
)  # fmt: skip
def test_no_other_name_is_ever_deleted(folder, name):
    put(folder / name)
    before = names_in(folder)

    assert cleanup.resized(str(folder), 0.1) == 0
    assert names_in(folder) == before


def test_a_copy_whose_original_is_gone_is_kept(folder):
    put(folder / "photo_20x15.jpg")
    (folder / "photo.jpg").unlink()

    assert cleanup.resized(str(folder)) == 0


def test_folders_below_are_cleared_too(folder):
    put(folder / "2026" / "a.png")
    put(folder / "2026" / "a_20x15.png")

    assert cleanup.resized(str(folder)) == 1
    assert names_in(folder / "2026") == ["a.png"]


def test_links_are_neither_followed_nor_deleted(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere / "a.jpg")
    put(elsewhere / "a_20x15.jpg")
    (folder / "link").symlink_to(elsewhere)
    (folder / "photo_20x15.jpg").symlink_to(elsewhere / "a.jpg")

    assert cleanup.resized(str(folder), 0) == 0
    assert names_in(elsewhere) == ["a.jpg", "a_20x15.jpg"]


def test_what_a_killed_job_left_half_written_goes_too(folder):
    put(folder / ".unfinished-0123456789abcdef")
    put(folder / ".unfinished-fedcba9876543210", days=0)

    assert cleanup.resized(str(folder), 1) == 1
    assert names_in(folder) == [".unfinished-fedcba9876543210", "photo.jpg"]


def test_a_folder_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*nowhere'"):
        cleanup.resized(str(folder / "nowhere"))


@pytest.mark.parametrize("days", [-1, float("nan")])
def test_days_that_cannot_be_are_refused(folder, days):
    with pytest.raises(ValueError, match="it must be 0 or more"):
        cleanup.resized(str(folder), days)


@pytest.mark.usefixtures("redis")
def test_it_runs_as_a_job(folder, work):
    put(folder / "photo_20x15.jpg")
    job = enqueue(cleanup.resized, str(folder), days=30)
    work()

    assert job.return_value() == 1
