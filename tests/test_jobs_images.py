"""Resizing pictures."""

import shutil
from io import BytesIO
from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageCms

from enqueue import enqueue
from jobs.images import Format, resize

SAMPLE = Path(__file__).parents[1] / "samples/photo.jpg"


@pytest.fixture(autouse=True)
def jobs_files(tmp_path, environ):
    environ(JOBS_FILES=str(tmp_path))


@pytest.fixture
def photo(tmp_path):
    """A phone's photograph: 12 megapixels, lying on its side, with a colour profile."""
    return Path(shutil.copy(SAMPLE, tmp_path))


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def quarters(image):
    """The colours of the four quarters, from the top left, in the reading direction."""
    image = image.convert("RGB")
    across, down = image.size
    return [
        image.getpixel((round(across * x), round(down * y)))
        for y in (0.25, 0.75)
        for x in (0.25, 0.75)
    ]


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def four_colours(size=(80, 40)):
    small = Image.new("RGB", (2, 2))
    small.putdata([RED, GREEN, BLUE, WHITE])
    return small.resize(size, Image.Resampling.NEAREST)


def test_the_sample_photo_has_12_megapixels_an_orientation_and_a_colour_profile():
    photo = opened(SAMPLE)

    assert photo.size == (3000, 4000)
    assert photo.getexif()[ExifTags.Base.Orientation] == 6
    profile = ImageCms.ImageCmsProfile(BytesIO(photo.info["icc_profile"]))
    assert ImageCms.getProfileDescription(profile).startswith("sRGB")


@pytest.mark.usefixtures("redis")
def test_a_photo_is_resized_by_a_worker(photo, work):
    job = enqueue(resize, str(photo), 200, 150)
    work()

    assert job.return_value() == str(photo.with_name("photo_200x150.jpg"))
    assert opened(job.return_value()).size == (200, 150)


def test_a_photo_is_upright_and_says_so_no_more(photo):
    small = opened(resize(str(photo), 200))

    assert small.size == (200, 150)
    assert ExifTags.Base.Orientation not in small.getexif()
    sky, water = small.getpixel((100, 5)), small.getpixel((100, 140))
    assert sky[2] > sky[0]
    assert water[0] > water[2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_orientation_of_a_camera_is_put_right(tmp_path, orientation, suffix):
    how_it_lies = {
        1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4],
    }[orientation]  # fmt: skip
    stored = four_colours()
    for method in how_it_lies:
        stored = stored.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"quality": 100} if suffix == "jpg" else {}
    path = save(tmp_path / f"a.{suffix}", stored, exif=exif, **lossless)
    small = opened(resize(path, 40))

    assert small.size == (40, 20)
    for seen, wanted in zip(quarters(small), [RED, GREEN, BLUE, WHITE], strict=True):
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) < 40


def test_the_colour_profile_is_kept(photo):
    small = opened(resize(str(photo), 200))

    assert small.info["icc_profile"] == opened(photo).info["icc_profile"]


def test_the_author_is_kept_but_not_where_the_picture_was_taken(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ann"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 24.0)
    path = save(tmp_path / "a.jpg", four_colours(), exif=exif)
    kept = opened(resize(path, 20)).getexif()

    assert kept[ExifTags.Base.Artist] == "Ann"
    assert not kept.get_ifd(ExifTags.IFD.GPSInfo)


def test_broken_exif_does_not_spoil_a_sound_picture(tmp_path):
    path = save(tmp_path / "a.jpg", four_colours(), exif=b"Exif\0\0nonsense")

    assert opened(resize(path, 20)).size == (20, 10)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(200, None, (200, 100)), (None, 200, (400, 200)), (90, 90, (90, 90)), (1, None, (1, 1))],
)
def test_one_side_keeps_the_ratio_and_two_are_taken_at_their_word(tmp_path, width, height, size):
    path = save(tmp_path / "a.png", Image.new("RGB", (800, 400)))
    made = resize(path, width, height)

    assert opened(made).size == size
    assert Path(made).name == f"a_{size[0]}x{size[1]}.png"


def test_with_both_sides_given_the_middle_is_shown_undistorted(tmp_path):
    wide = Image.new("RGB", (400, 100), RED)
    wide.paste(GREEN, (175, 25, 225, 75))  # a square in the middle
    made = opened(resize(save(tmp_path / "a.png", wide), 80, 80))

    green = made.getchannel("G").point([255 * (value > 127) for value in range(256)])
    assert green.getbbox() == (20, 20, 60, 60)


def test_a_picture_may_be_made_larger(tmp_path):
    path = save(tmp_path / "a.png", four_colours((8, 4)))

    assert opened(resize(path, 80)).size == (80, 40)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("jpg", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("png", "RGBA"), ("png", "LA"),
        ("png", "I;16"), ("gif", "L"), ("webp", "RGBA"), ("tif", "CMYK"), ("tif", "I;16"),
        ("tif", "F"), ("bmp", "RGB"), ("jp2", "RGB"),
    ],
)  # fmt: skip
def test_the_usual_formats_stay_what_they_are(tmp_path, suffix, mode):
    source = Image.new("LA" if "A" in mode else "L", (80, 40), 90).convert(mode)
    path = save(tmp_path / f"a.{suffix}", source)
    made = opened(resize(path, 40))

    assert Path(made.filename).name == f"a_40x20.{suffix}"
    assert (made.format, made.mode) == (opened(path).format, opened(path).mode)


@pytest.mark.parametrize("suffix", ["ppm", "ico", "tga", "pcx", "sgi", "dds", "qoi", "icns"])
def test_other_formats_that_pillow_reads_become_png(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", Image.new("RGB", (32, 32), RED))
    made = opened(resize(path, 16))

    assert (made.format, Path(made.filename).name) == ("PNG", "a_16x16.png")
    assert made.convert("RGB").getpixel((8, 8)) == RED


def test_a_suffix_that_lies_about_the_format_is_put_right(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, "JPEG")

    assert resize(str(path), 4) == str(tmp_path / "a_4x4.jpg")


def test_colours_of_a_palette_are_blended_not_their_numbers(tmp_path):
    path = save(tmp_path / "a.png", four_colours().quantize(4))

    assert quarters(opened(resize(path, 40))) == [RED, GREEN, BLUE, WHITE]


def test_what_is_transparent_stays_so_and_does_not_bleed(tmp_path):
    half = Image.new("RGBA", (80, 40), (255, 0, 0, 255))
    half.paste((0, 255, 0, 0), (0, 0, 40, 40))
    made = opened(resize(save(tmp_path / "a.png", half), 20))

    assert made.getpixel((4, 5))[3] == 0
    assert all(made.getpixel((x, 5))[1] == 0 for x in range(20) if made.getpixel((x, 5))[3])


def test_16_bits_of_grey_stay_16_bits(tmp_path):
    path = save(tmp_path / "a.png", Image.new("I;16", (80, 40), 40_000))

    assert opened(resize(path, 20)).getpixel((5, 5)) == 40_000


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_a_moving_picture_moves_on(tmp_path, suffix):
    frames = [Image.new("RGB", (80, 40), colour) for colour in (RED, GREEN, BLUE)]
    path = save(
        tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:],
        duration=[100, 200, 300], loop=0, **({"lossless": True} if suffix == "webp" else {}),
    )  # fmt: skip
    seen = []
    with Image.open(resize(path, 20)) as made:
        for number in range(made.n_frames):
            made.seek(number)
            made.load()
            seen.append((made.size, made.info["duration"], made.convert("RGB").getpixel((9, 5))))

    assert [size for size, _, _ in seen] == [(20, 10)] * 3
    assert [duration for _, duration, _ in seen] == [100, 200, 300]
    for (_, _, colour), wanted in zip(seen, (RED, GREEN, BLUE), strict=True):
        assert colour == pytest.approx(wanted, abs=12)


def test_the_first_page_of_several_is_taken(tmp_path):
    pages = [Image.new("RGB", (80, 40), colour) for colour in (RED, GREEN)]
    path = save(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    made = opened(resize(path, 20))

    assert (made.n_frames, made.getpixel((5, 5))) == (1, RED)


@pytest.mark.parametrize("side", [0, -1, 20_001, 1.5, "200"])
def test_a_side_that_cannot_be_is_refused(tmp_path, side):
    path = save(tmp_path / "a.png", Image.new("RGB", (8, 4)))
    with pytest.raises(ValueError, match="must be from 1 to 20,000 pixels"):
        resize(path, side)
    with pytest.raises(ValueError, match="height is "):
        resize(path, 10, side)

    assert names_in(tmp_path) == ["a.png"]


def test_no_side_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give at least one"):
        resize(save(tmp_path / "a.png", Image.new("RGB", (8, 4))), None)


def test_a_side_that_follows_from_the_other_is_held_to_the_same_limit(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (10, 4000)))
    with pytest.raises(ValueError, match="would be 100 x 40000"):
        resize(path, 100)


def test_a_decompression_bomb_is_refused_with_the_limit(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.new("1", (400, 300)))
    for limit in (100_000, 10_000):  # beyond the limit Pillow warns, beyond its double it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=rf"a\.png' is too large .* limit of {limit:,} pixels"):
            resize(path, 20)


def test_a_result_beyond_the_limit_of_pixels_is_refused(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="400,000,000 pixels in all; the limits are 20,000 a side"):
        resize(path, 20_000)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*nowhere\.jpg'"):
        resize(str(tmp_path / "nowhere.jpg"), 20)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.jpg' cannot be read as a picture"):
        resize(str(path), 20)


def test_a_truncated_picture_is_an_error_and_nothing_is_left_behind(photo):
    photo.write_bytes(photo.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cannot be read as a picture: .*truncated"):
        resize(str(photo), 200)

    assert names_in(photo.parent) == ["photo.jpg"]


def test_a_failed_write_leaves_the_older_file_and_nothing_else(photo, monkeypatch):
    made = Path(resize(str(photo), 200))
    before = made.read_bytes()
    monkeypatch.setattr(
        "jobs.images.FORMATS", {"JPEG": Format(".jpg", ("RGB",), options={"dpi": 1})}
    )
    with pytest.raises(TypeError):
        resize(str(photo), 200)

    assert made.read_bytes() == before
    assert names_in(photo.parent) == ["photo.jpg", "photo_200x150.jpg"]


def test_a_second_run_replaces_the_first_ones_file(photo):
    assert resize(str(photo), 200) == resize(str(photo), 200)

    assert len(names_in(photo.parent)) == 2


def test_who_may_read_the_original_may_read_the_copy(photo):
    photo.chmod(0o640)

    assert Path(resize(str(photo), 200)).stat().st_mode & 0o777 == 0o640
