"""The sample job's picture: a 12-megapixel photograph of a mountain lake that nobody took.

It is as a phone would have stored it: lying on its side with an EXIF orientation that says so, with
a colour profile, and with grain that makes it some megabytes.  It is the same on every machine.
"""

from itertools import pairwise
from pathlib import Path
from random import Random

from PIL import ExifTags, Image, ImageChops, ImageCms, ImageDraw, ImageFilter, ImageOps

Colour = tuple[int, int, int]
Point = tuple[float, float]

SIZE = WIDTH, HEIGHT = 4000, 3000  # as seen, upright
SHORE = 2020  # where the water begins, from the top
SUN = (2440, 1180)
TURN_RIGHT = 6  # EXIF's number for a camera that was held upright
SKY: list[tuple[float, Colour]] = [
    (0, (30, 50, 104)),
    (0.3, (88, 98, 156)),
    (0.52, (204, 142, 150)),
    (0.68, (255, 196, 142)),
    (1, (255, 226, 178)),
]
# From far to near: where its line runs on average, how much it rises and falls, its colour.
RIDGES: list[tuple[int, int, Colour]] = [
    (1440, 640, (202, 146, 150)),
    (1530, 520, (150, 112, 136)),
    (1730, 380, (98, 80, 114)),
    (1880, 230, (52, 50, 80)),
]
HAZE: Colour = (255, 196, 158)
NIGHT: Colour = (16, 18, 32)


def render(path: Path) -> Path:
    """Write the photograph to `path` unless there is one; return `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        _save(_landscape(Random(11)), part)
        part.replace(path)
    return path


def _landscape(chance: Random) -> Image.Image:
    scene = _sky(chance)
    for middle, rise, colour in RIDGES:
        _paint_ridge(scene, list(_ridge(chance, middle, rise)), colour)
    _paint_lake(scene, chance)
    # Only now: in the water the ripples break the disc up.
    ImageDraw.Draw(scene).circle(SUN, 80, (255, 250, 236))
    _paint_firs(scene, chance)
    return _with_grain(scene, chance)


def _sky(chance: Random) -> Image.Image:
    sky = _gradient(SKY, SHORE).resize(SIZE)
    sky.paste((255, 172, 150), mask=_clouds(chance))
    for radius, colour, sharpness in ((2300, (255, 190, 116), 2.0), (640, (255, 244, 210), 1.9)):
        _paint_glow(sky, radius, colour, sharpness)
    return sky


def _gradient(stops: list[tuple[float, Colour]], height: int) -> Image.Image:
    """A column of colours, one pixel wide, that blend from stop to stop on the way down."""
    column = Image.new("RGB", (1, height))
    for (start, above), (end, below) in pairwise(stops):
        strip = Image.new("RGB", (1, 2), above)
        strip.putpixel((0, 1), below)
        top, bottom = round(start * height), round(end * height)
        box = (0, 0.5, 1, 1.5)  # from the middle of one colour to the middle of the other
        column.paste(strip.resize((1, bottom - top), Image.Resampling.BILINEAR, box), (0, top))
    return column


def _clouds(chance: Random) -> Image.Image:
    """Where clouds are: noise in ever finer sizes on top of one another, drawn out sideways."""
    small = (500, 375)
    total = Image.new("L", small)
    for octave in range(5):
        noise = _noise(chance, (3 << octave, 11 << octave)).resize(small)
        total = ImageChops.add(total, noise.point([v >> (octave + 1) for v in range(256)]))
    wisps = total.point([min(210, max(0, (v - 122) * 4)) for v in range(256)])
    fade = Image.linear_gradient("L").resize(small).point([max(0, 255 - v * 2) for v in range(256)])
    return ImageChops.multiply(wisps, fade).resize(SIZE)


def _noise(chance: Random, size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("L", size, chance.randbytes(size[0] * size[1]))


def _paint_glow(sky: Image.Image, radius: int, colour: Colour, sharpness: float) -> None:
    left, top = SUN[0] - radius, SUN[1] - radius
    box = (left, top, left + 2 * radius, top + 2 * radius)
    sky.paste(colour, box, _glow(sharpness).resize((2 * radius, 2 * radius)))


def _glow(sharpness: float) -> Image.Image:
    """Light that fades from the middle to nothing at the edges."""
    fade = [round(255 * max(0, 1 - v / 180) ** sharpness) for v in range(256)]
    return Image.radial_gradient("L").point(fade)


def _ridge(chance: Random, middle: float, rise: float) -> list[Point]:
    """A mountain range's line from left to right, each piece broken in two again and again."""
    heights = [middle + chance.uniform(-0.5, 0.5) * rise for _ in range(4)]
    while len(heights) < WIDTH / 3:
        rise *= 0.53
        broken = heights[:1]
        for left, right in pairwise(heights):
            broken += [(left + right) / 2 + chance.uniform(-0.5, 0.5) * rise, right]
        heights = broken
    return [(number * WIDTH / (len(heights) - 1), y) for number, y in enumerate(heights)]


def _paint_ridge(scene: Image.Image, line: list[Point], colour: Colour) -> None:
    """Fill the land below `line`, the paler the lower: haze lies in the valleys."""
    top = max(0, int(min(y for _, y in line)))
    mask = Image.new("L", (WIDTH, SHORE - top))
    below = [(x, y - top) for x, y in line]
    ImageDraw.Draw(mask).polygon([(0, SHORE), *below, (WIDTH, SHORE)], 255)
    pale = ((colour[0] + HAZE[0]) // 2, (colour[1] + HAZE[1]) // 2, (colour[2] + HAZE[2]) // 2)
    stops = [(0.0, colour), (0.35, colour), (1.0, pale)]
    scene.paste(_gradient(stops, mask.height).resize(mask.size), (0, top), mask)


def _paint_lake(scene: Image.Image, chance: Random) -> None:
    """Mirror the land in the water, darker, with ripples that grow towards the viewer."""
    size = (WIDTH, HEIGHT - SHORE)
    mirrored = ImageOps.flip(scene.crop((0, SHORE - round(size[1] * 1.3), WIDTH, SHORE)))
    water = mirrored.resize(size).filter(ImageFilter.BoxBlur((5, 12)))
    depth = _gradient([(0, (222, 214, 222)), (1, (122, 116, 136))], size[1]).resize(size)
    ripples = _ripples(chance, size)
    calm = ripples.point([128 + (v - 128) * 2 // 5 for v in range(256)])
    water = ImageChops.soft_light(ImageChops.multiply(water, depth), calm.convert("RGB"))
    water.paste((255, 218, 168), mask=_glitter(ripples))
    scene.paste(water, (0, SHORE))


def _ripples(chance: Random, size: tuple[int, int]) -> Image.Image:
    far = _noise(chance, (110, 330)).resize(size)
    near = _noise(chance, (44, 70)).resize(size)
    return Image.composite(near, far, Image.linear_gradient("L").resize(size))


def _glitter(ripples: Image.Image) -> Image.Image:
    """Where ripples throw the sun back: below it, ever wider and fainter."""
    reach = (1700, 2 * ripples.height)
    path = _glow(1.1).resize(reach).crop((0, ripples.height, *reach))
    below = Image.new("L", ripples.size)
    below.paste(path, (SUN[0] - reach[0] // 2, 0))
    crests = ripples.point([min(255, max(0, (v - 132) * 4)) for v in range(256)])
    return ImageChops.multiply(below, crests)


def _paint_firs(scene: Image.Image, chance: Random) -> None:
    """A bank with firs on both sides, close to the viewer: black against the light."""
    draw = ImageDraw.Draw(scene)
    for left, right in ((-150, 1150), (3050, 4150)):
        outer, inner = (left, right) if left < 0 else (right, left)
        for _ in range(46):
            near = chance.random() ** 1.6  # to the picture's edge, where the trees are taller
            x = inner + (outer - inner) * (0.12 + 0.88 * near)
            height = 260 + 1150 * near * chance.uniform(0.55, 1)
            _paint_fir(draw, chance, (x, HEIGHT - 150 - 260 * near), height)
        shore = [(inner, HEIGHT), ((inner + outer) / 2, HEIGHT - 260), (outer, HEIGHT - 420)]
        draw.polygon([*shore, (outer, HEIGHT)], NIGHT)


def _paint_fir(draw: ImageDraw.ImageDraw, chance: Random, foot: Point, height: float) -> None:
    (x, y), half = foot, height * 0.2
    for side in (-1, 1):
        outline = [(x, y + 400), (x, y - height)]
        for step in range(1, 27):
            reach = half * (step / 26) * chance.uniform(0.75, 1.15)
            down = y - height * (1 - step / 26)
            outline += [(x + side * reach, down + half * 0.1), (x + side * reach * 0.45, down)]
        draw.polygon([*outline, (x, y + 400)], NIGHT)


def _with_grain(scene: Image.Image, chance: Random) -> Image.Image:
    tile = _noise(chance, (800, 600)).point([116 + v * 24 // 255 for v in range(256)])
    grain = Image.new("L", SIZE)
    for left in range(0, WIDTH, 800):
        for top in range(0, HEIGHT, 600):
            grain.paste(tile, (left, top))
    return ImageChops.add(scene, grain.convert("RGB"), offset=-128)


def _save(scene: Image.Image, path: Path) -> None:
    about = Image.Exif()
    about[ExifTags.Base.Orientation] = TURN_RIGHT
    about[ExifTags.Base.ImageDescription] = "A mountain lake at sunrise"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lying = scene.transpose(Image.Transpose.ROTATE_90)
    lying.save(path, "JPEG", quality=90, exif=about, icc_profile=profile)
