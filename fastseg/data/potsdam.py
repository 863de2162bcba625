"""ISPRS Potsdam: aerial pictures with infrared, in 6 classes or 3."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..predict.files import readable
from .base import DataError, Dataset, Sample
from .geometry import Geometry
from .pictures import check_split, read_channels, relabel, shuffled

__all__ = ["Potsdam", "Raw", "find_raw", "prepare"]

LAYOUT = (
    "Get 4_Ortho_RGBIR.zip and 5_Labels_for_participants.zip of the Potsdam data from ISPRS "
    "(www.isprs.org, 2D semantic labeling contest), unpack them into a folder RAW, and run "
    "`fastseg data potsdam RAW ROOT`."
)
COLOURS = {
    "road": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
BLACK = (0, 0, 0)  # at boundaries, in labels of the name noBoundary
VOID, UNKNOWN = 255, 254
SIDE = 200  # of a tile, at half resolution
SUBSETS: Mapping[int, Mapping[str, Sequence[int]]] = {
    6: {name: (i,) for i, name in enumerate(COLOURS)},
    3: {"road and car": (0, 4), "building and clutter": (1, 5), "vegetation and tree": (2, 3)},
}
NAME = re.compile(r"potsdam_(\d+_\d+)_(RGBIR|label)(?:_noBoundary)?\.tiff?$", re.I)


class Potsdam(Dataset):
    """Tiles of 200×200 pixels of 10 cm, red, green, blue and infrared.

    8,550 tiles from 38 pictures, of which 24 are labelled: 5,400 tiles. The papers train on all and
    score all that are labelled: split "all". For scores of pictures that training has not seen, 855
    labelled tiles, chosen by their names, are "test" and the others "train".

    Args:
        root: what `prepare` has written.
        classes: 6, or 3 that join two each.
    """

    channels = 4
    geometry = Geometry(SIDE)

    def __init__(self, root: str, split: str = "train", classes: int = 6) -> None:
        check_split(f"potsdam-{classes}", split, ("train", "test", "all"))
        self.classes = tuple(SUBSETS[classes])
        self.groups = tuple(SUBSETS[classes].values())
        self.images, self.labels = Path(root, "images"), Path(root, "labels")
        tiles, labelled = [], []
        for path in sorted(self.images.glob("*.npy")):
            names = [f"{path.stem}/{i:03d}" for i in range(len(_tiles(path, 4)))]
            tiles += names
            labelled += names if (self.labels / path.name).exists() else []
        if not tiles:
            raise DataError(f"{readable(str(self.images))} holds no tiles. {LAYOUT}")
        test = set(shuffled(labelled)[: round(len(tiles) / 10)])
        self.keys = [
            name for name in tiles if split == "all" or (name in test) == (split == "test")
        ]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        name, _, tile = self.keys[index].partition("/")
        image, labels = _tiles(self.images / f"{name}.npy", 4)[int(tile)], None
        if (path := self.labels / f"{name}.npy").exists():
            labels = relabel(np.array(_tiles(path)[int(tile)]), self.groups)
        return Sample(self.keys[index], np.array(image), labels)


def _tiles(path: Path, *channels: int) -> np.ndarray:
    """The tiles of a picture (N,200,200,…) uint8, as a memory map.

    Raises:
        DataError: the file holds something else.
    """
    try:
        tiles = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{readable(str(path))} cannot be read: {error}") from error
    if tiles.dtype != np.uint8 or tiles.shape[1:] != (SIDE, SIDE, *channels):
        raise DataError(
            f"{readable(str(path))} must hold uint8 (N, {SIDE}, {SIDE}{', 4' * len(channels)}), "
            f"got {tiles.dtype} {tiles.shape}. {LAYOUT}"
        )
    return tiles


# --- from the archive to tiles ------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """The files of one picture in the archive."""

    name: str
    image: Path
    labels: Path | None

    def outputs(self, out: str | Path) -> list[Path]:
        """Where its tiles go in a folder; the picture's last."""
        rooms = ["images"] if self.labels is None else ["labels", "images"]
        return [Path(out, room, f"{self.name}.npy") for room in rooms]


def find_raw(folder: str | Path) -> list[Raw]:
    """The pictures below a folder and their labels, where there are any.

    Labels are those for participants, which the papers use, if there are such; whole ones rather
    than those without boundaries.

    Raises:
        DataError: there are no pictures.
    """
    paths = sorted(Path(folder).rglob("*"), key=lambda path: (len(path.name), path), reverse=True)
    found = [(match, path) for path in paths if (match := NAME.search(path.name))]
    images = {match[1]: path for match, path in found if match[2].upper() == "RGBIR"}
    labels = [(match[1], path) for match, path in found if match[2].lower() == "label"]
    if not images:
        raise DataError(
            f"{readable(str(folder))} holds no pictures top_potsdam_…_RGBIR.tif. {LAYOUT}"
        )
    official = [(name, path) for name, path in labels if "participants" in path.parent.name]
    truth = dict(official or labels)
    return [Raw(name, images[name], truth.get(name)) for name in sorted(images)]


def prepare(raw: Raw, unknown_is_void: bool = False) -> list[bytes]:
    """What the files `Raw.outputs` hold.

    Pictures at half resolution by the mean of 2×2 pixels, labels by the upper left of these, in
    tiles of 200×200, row by row.

    Args:
        unknown_is_void: whether colours that mean nothing give pixels without a class.

    Raises:
        DataError: a file cannot be read, has another size, or a colour that means nothing.
    """
    pixels, contents = _read(raw.image, 4), []
    if raw.labels is not None:
        colours = _read(raw.labels, 3)
        if colours.shape[:2] != pixels.shape[:2]:
            raise DataError(f"{readable(str(raw.labels))} has not the size of its picture")
        classes = _classes(colours, raw.labels, unknown_is_void)
        contents.append(_npy(_cut(classes[::2, ::2])))
    bands = range(0, len(pixels), 2 * SIDE)  # what is summed fits in a cache
    halves = np.concatenate([_halved(pixels[y : y + 2 * SIDE]) for y in bands])
    return [*contents, _npy(_cut(halves))]


def _read(path: Path, channels: int) -> np.ndarray:
    """(H,W,C) uint8, of sides that make whole tiles."""
    pixels = read_channels(str(path), channels)
    if any(side % (2 * SIDE) for side in pixels.shape[:2]):
        raise DataError(
            f"{readable(str(path))} must have sides that are multiples of {2 * SIDE}, "
            f"got {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return pixels


def _classes(colours: np.ndarray, path: Path, unknown_is_void: bool) -> np.ndarray:
    """(H,W,3) as classes (H,W) uint8."""
    table = np.full(8, UNKNOWN, np.uint8)
    for label, colour in enumerate(COLOURS.values()):
        table[_code(np.array(colour, np.uint8))] = label
    table[_code(np.array(BLACK, np.uint8))] = VOID
    classes = table[_code(colours)]
    # Counted round, 255 and 0 become 0 and 1, and no other value has its upper bits clear.
    red, green, blue = (colours[..., c] + np.uint8(1) for c in range(3))
    classes[(red | green | blue) > 1] = UNKNOWN
    strange = np.flatnonzero(classes == UNKNOWN)
    if len(strange) and not unknown_is_void:
        y, x = divmod(int(strange[0]), classes.shape[1])
        known = ", ".join(f"{name} {colour}" for name, colour in COLOURS.items())
        raise DataError(
            f"{readable(str(path))}: row {y}, column {x} has the colour "
            f"{tuple(colours[y, x].tolist())}, and {len(strange)} pixels have one, that is none of "
            f"{known}"
        )
    classes.flat[strange] = VOID
    return classes


def _code(colours: np.ndarray) -> np.ndarray:
    """(…,3) of 0 and 255 as numbers below 8."""
    return (colours[..., 0] & 1) | (colours[..., 1] & 2) | (colours[..., 2] & 4)


def _halved(pixels: np.ndarray) -> np.ndarray:
    sums = pixels[::2].astype(np.uint16) + pixels[1::2]
    return ((sums[:, ::2] + sums[:, 1::2] + 2) >> 2).astype(np.uint8)


def _cut(picture: np.ndarray) -> np.ndarray:
    """(H,W,…) as tiles (N,200,200,…), row by row."""
    rows, columns = (side // SIDE for side in picture.shape[:2])
    tiles = picture.reshape(rows, SIDE, columns, SIDE, *picture.shape[2:])
    return tiles.swapaxes(1, 2).reshape(-1, SIDE, SIDE, *picture.shape[2:])


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
