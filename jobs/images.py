"""Pictures, made smaller or larger."""

import re
from pathlib import Path

from PIL import Image, ImageOps

from jiffy import progress
from jiffy.files import open_file, whole_file

MAX_SIDE = 10_000
# Formats that stay what they are.  Everything else that Pillow reads becomes PNG.
KEPT = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
# The names that `resize` gives: the original's name, an underscore, the size, a suffix.
RESIZED_NAME = re.compile(r"(?P<stem>.+)_[1-9]\d{0,4}x[1-9]\d{0,4}(?P<suffix>\.\w+)")


def resize(path: str, width: int | None, height: int | None = None) -> str:
    """Write the picture at `path` in another size next to it; return the new file's path.

    `photo.jpg` becomes `photo_200x150.jpg`.  With one side given (the other None), the picture
    keeps its proportions.  With both, it fills exactly that size: the middle is shown, undistorted.
    It stands upright as its EXIF orientation says, and the copy does not say where it was taken.
    The new file replaces an older one in one step; a job that fails leaves nothing behind.

    Raises ValueError for a path outside JOBS_FILES and for sides that are out of bounds, and what
    Pillow raises for a file that is not a picture.
    """
    progress.update(0, "reading")
    with open_file(path, "rb") as file, Image.open(file) as stored:
        image = ImageOps.exif_transpose(stored)
        image_format = stored.format if stored.format in KEPT else "PNG"
    size = _size(image, width, height)
    progress.update(0.3, "resizing")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.info.pop("icc_profile", None)  # that of other colours
    resized = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    progress.update(0.9, "writing")
    source = Path(path)
    is_its_own = Image.registered_extensions().get(source.suffix.lower()) == image_format
    suffix = source.suffix if is_its_own else KEPT[image_format]
    target = source.with_name(f"{source.stem}_{size[0]}x{size[1]}{suffix}")
    with whole_file(target) as new:
        resized.save(new, image_format, icc_profile=resized.info.get("icc_profile"))
    return str(target)


def _size(image: Image.Image, width: int | None, height: int | None) -> tuple[int, int]:
    if width is not None and height is None:
        height = max(1, round(image.height * width / image.width))
    elif width is None and height is not None:
        width = max(1, round(image.width * height / image.height))
    if width is None or height is None:
        raise ValueError("width and height are both None; give at least one.")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(
            f"The size would be {width} x {height}; each side must be 1 to {MAX_SIDE:,} pixels."
        )
    return width, height
