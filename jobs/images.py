"""Pictures, made smaller or larger."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image, ImageCms, ImageOps, ImageSequence

from jiffy import progress
from jiffy.files import open_file, whole_file

Size = tuple[int, int]

MAX_SIDE = 20_000
# What `resize` calls its files: the original's name, an underscore, the size, a suffix.
RESIZED_NAME = re.compile(r"(?P<stem>.+)_[1-9]\d{0,4}x[1-9]\d{0,4}(?P<suffix>\.\w+)")
# What it keeps of what a picture says of itself: not where it was taken, nor serial numbers.
KEPT_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
# It shrinks in two steps: quickly to no less than three times the size, then with the best filter.
_QUICKLY_TO = 3


@dataclass(frozen=True)
class Format:
    """How pictures of one format are written: in which of Pillow's modes, with which options."""

    suffix: str
    modes: tuple[str, ...]
    moves: bool = False
    options: dict[str, Any] = field(default_factory=dict)


FORMATS = {
    "JPEG": Format(".jpg", ("L", "RGB", "CMYK"), options={"quality": 90, "optimize": True}),
    "PNG": Format(".png", ("L", "LA", "RGB", "RGBA", "I;16"), moves=True),
    "GIF": Format(".gif", ("L", "RGB", "RGBA"), moves=True, options={"disposal": 2}),
    "WEBP": Format(".webp", ("RGB", "RGBA"), moves=True, options={"quality": 85}),
    "AVIF": Format(".avif", ("RGB", "RGBA"), moves=True),
    "TIFF": Format(
        ".tif",
        ("L", "LA", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"),
        options={"compression": "tiff_adobe_deflate"},
    ),
    "BMP": Format(".bmp", ("L", "RGB", "RGBA")),
    "JPEG2000": Format(".jp2", ("L", "LA", "RGB", "RGBA", "I;16")),
}


def resize(path: str, width: int | None, height: int | None = None) -> str:
    """Write the picture at `path` in another size next to it; return the new file's path.

    `photo.jpg` becomes `photo_200x150.jpg`.  With one side given (the other None) the ratio is
    kept.  With both, the picture fills exactly that size, undistorted: what is too much is cut off
    evenly on two sides.

    It stands upright as its EXIF orientation says, and keeps its colour profile, camera, date,
    author and copyright; where it was taken is left out.  JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP and
    JPEG 2000 stay what they are, with their animation; whatever else Pillow reads becomes PNG.
    The new file replaces an older one in one step; a run that fails leaves nothing behind.

    Raises FileNotFoundError if there is no such file, and ValueError for one outside JOBS_FILES,
    for one that is no picture or is damaged, for sides below 1 or above 20,000 pixels, and beyond
    Pillow's limit of pixels.
    """
    _check_sides(width, height)
    source = Path(path)
    progress.update(0, "reading")
    with open_file(path, "rb") as file, _opened(file) as image:
        permissions = os.fstat(file.fileno()).st_mode
        size = _size(image, width, height)
        written_as = _format_for(image)
        frames = list(_frames(image, size, written_as, crop=width is not None is not height))
        about = _about(image, frames)
    target = source.with_name(f"{source.stem}_{size[0]}x{size[1]}{_suffix(source, written_as)}")
    progress.update(0.9, "writing")
    with whole_file(target, permissions) as new:
        frames[0].save(new, written_as, **FORMATS[written_as].options, **about)
    return str(target)


def _check_sides(width: int | None, height: int | None) -> None:
    if width is None and height is None:
        raise ValueError("width and height are both None; give at least one.")
    for name, side in {"width": width, "height": height}.items():
        if side is not None and (not isinstance(side, int) or not 1 <= side <= MAX_SIDE):
            raise ValueError(f"{name} is {side!r}; it must be from 1 to {MAX_SIDE:,} pixels.")


@contextmanager
def _opened(source: IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture; whatever is wrong with it as it is read is a ValueError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                if image.format not in ("JPEG", "MPO"):  # those can be read in a smaller size
                    image.load()
                _forget_broken_exif(image)
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"the limit of {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise ValueError(
            f"{source.name!r} is too large to be opened: it is above {limit}."
        ) from None
    except (OSError, SyntaxError, EOFError) as error:
        if getattr(error, "errno", None):  # the disk's fault, not the picture's
            raise
        raise ValueError(f"{source.name!r} cannot be read as a picture: {error}.") from error


def _forget_broken_exif(image: Image.Image) -> None:
    """Some programs write nonsense beside a sound picture."""
    try:
        Image.Exif().load(image.info.get("exif", b""))
    except SyntaxError:
        del image.info["exif"]


def _size(image: Image.Image, width: int | None, height: int | None) -> Size:
    """The size to be: of the picture as it is seen, upright."""
    across, down = _turned(image, image.size)
    if width is None:
        assert height is not None
        width = max(1, round(across * height / down))
    if height is None:
        height = max(1, round(down * width / across))
    pixels = width * height * getattr(image, "n_frames", 1)
    if max(width, height) > MAX_SIDE or pixels > (Image.MAX_IMAGE_PIXELS or pixels):
        raise ValueError(
            f"The result would be {width} x {height}, {pixels:,} pixels in all; the limits are "
            f"{MAX_SIDE:,} a side and {Image.MAX_IMAGE_PIXELS:,} in all."
        )
    return width, height


def _turned(image: Image.Image, size: Size) -> Size:
    """`size` with its sides exchanged if the picture is stored lying on its side."""
    lies = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (size[1], size[0]) if lies else size


def _format_for(image: Image.Image) -> str:
    if image.format == "MPO":  # a camera's JPEG with further pictures behind the first
        return "JPEG"
    return image.format if image.format in FORMATS else "PNG"


def _frames(
    image: Image.Image, size: Size, written_as: str, *, crop: bool
) -> Iterator[Image.Image]:
    """Yield the picture in its new size; each of its frames if it moves."""
    count = getattr(image, "n_frames", 1) if FORMATS[written_as].moves else 1
    if count == 1:
        progress.update(0.3, "resizing")
        yield _writable(_resized(image, size, crop=crop), FORMATS[written_as].modes)
        return
    for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
        progress.update(0.9 * (number - 1) / count, f"resizing frame {number} of {count}")
        # All alike, whatever each is stored as: the writers compare one with the next.
        yield _resized(frame, size, crop=crop).convert("RGBA")


def _resized(image: Image.Image, size: Size, *, crop: bool) -> Image.Image:
    """The picture upright and in its new size, in a mode that can be resized."""
    size = _turned(image, size)
    scale = max(size[0] / image.width, size[1] / image.height)
    quickly_to = [max(1, round(side * scale * _QUICKLY_TO)) for side in image.size]
    image.draft(None, (quickly_to[0], quickly_to[1]))
    box = _middle(image.size, size) if crop else None
    deep = image.mode.startswith("I;16")
    smooth = image.convert(_smooth_mode(image))
    smooth = smooth.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=_QUICKLY_TO)
    smooth = ImageOps.exif_transpose(smooth)
    return smooth.convert("I;16") if deep else smooth


def _middle(size: Size, shape: Size) -> tuple[float, float, float, float]:
    """The largest box in the middle of `size` that has the sides' ratio of `shape`."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    left, top = (size[0] - shape[0] * scale) / 2, (size[1] - shape[1] * scale) / 2
    return left, top, size[0] - left, size[1] - top


def _smooth_mode(image: Image.Image) -> str:
    """A mode whose values can be averaged: not the numbers of a palette's colours, for one."""
    if image.has_transparency_data:
        return "LA" if image.mode in ("LA", "La") else "RGBA"
    if image.mode.startswith("I;16"):
        return "I"
    same = ("L", "RGB", "CMYK", "LAB", "I", "F")
    return image.mode if image.mode in same else "L" if image.mode == "1" else "RGB"


def _writable(image: Image.Image, modes: tuple[str, ...]) -> Image.Image:
    """The picture in one of `modes`, those that its format has."""
    if image.mode in modes:
        return image
    if image.mode in ("CMYK", "LAB"):
        return _in_srgb(image)
    if image.mode in ("I", "F"):
        return image.convert("I;16" if image.mode == "I" and "I;16" in modes else "L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """The same colours in RGB: by the picture's own profile, which says nothing of RGB, if any."""
    profile = image.info.pop("icc_profile", None)
    if image.mode == "LAB":
        own = ImageCms.createProfile("LAB")
    elif profile:
        own = ImageCms.ImageCmsProfile(BytesIO(profile)).profile
    else:
        return image.convert("RGB")
    made = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None  # it was not asked to work in place
    made.info.pop("icc_profile", None)
    return made


def _about(image: Image.Image, frames: list[Image.Image]) -> dict[str, Any]:
    """What goes into the new file beside its pixels, as options of Pillow's `save`."""
    said = image.getexif()
    kept = Image.Exif()
    for tag in KEPT_TAGS:
        if tag in said:
            kept[tag] = said[tag]
    about: dict[str, Any] = {"exif": kept, "icc_profile": frames[0].info.get("icc_profile")}
    if len(frames) > 1:
        about |= {"save_all": True, "append_images": frames[1:]}
        about |= {"duration": [frame.info.get("duration", 0) for frame in frames]}
        about |= {"loop": image.info["loop"]} if "loop" in image.info else {}
    return about


def _suffix(source: Path, written_as: str) -> str:
    """The original's own suffix unless it stands for another format."""
    if Image.registered_extensions().get(source.suffix.lower()) == written_as:
        return source.suffix
    return FORMATS[written_as].suffix
