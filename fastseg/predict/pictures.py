"""Decode whatever Pillow can read into upright 8-bit RGB, and say what was decided on the way."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

__all__ = ["PictureError", "decode_picture", "pillow_settings", "read_picture", "working_size"]

# Bitmaps only: Pillow would hand PostScript, whatever the file's name, to an interpreter.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF",
    "WEBP",
)  # fmt: skip


class PictureError(Exception):
    """The file cannot be segmented; the message is the reason, without the file's name."""


@contextmanager
def pillow_settings() -> Iterator[None]:
    """Load Pillow's plugins before threads do, and keep its warnings off the progress bar."""
    Image.init()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module="PIL")
        yield


def read_picture(path: str) -> tuple[Image.Image, list[str]]:
    """The picture as upright RGB, and notes on what was decided to make it so.

    Raises:
        PictureError: the file cannot be decoded, with the reason.
    """
    if os.path.isdir(path):
        raise PictureError("the folder cannot be read")
    if not os.path.exists(path):
        raise PictureError("no such file")
    if not os.path.isfile(path):
        raise PictureError("not a regular file")
    if os.path.getsize(path) == 0:
        raise PictureError("the file is empty")
    return decode_picture(path)


def decode_picture(file: str | BinaryIO) -> tuple[Image.Image, list[str]]:
    """`read_picture` of a file that is there, or of its contents."""
    notes: list[str] = []
    try:
        with Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            return _to_rgb(_upright(_first_frame(image, notes), notes), notes), notes
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6  # type: ignore[operator]
        raise PictureError(f"more than {limit} million pixels: refused as a bomb") from None
    except MemoryError:
        raise PictureError("not enough memory to decode it") from None
    except Exception as error:  # decoders raise nearly everything on broken data
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PictureError(f"cannot be decoded: {reason}") from error


def _first_frame(image: Image.Image, notes: list[str]) -> Image.Image:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        image.seek(0)
        notes.append(f"first of {frames} frames")
    image.load()
    return image


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        turned = ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF is no reason to lose the picture
        notes.append("unreadable EXIF data ignored")
        return image
    if orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    return turned


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _stretch(image, notes)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=alpha)
        if alpha.getextrema() != (255, 255):
            notes.append("transparency laid on white")
    elif image.mode == "CMYK":
        notes.append("CMYK, converted without its colour profile")
    return image.convert("RGB")


def _stretch(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey of more than 8 bits, whose range is anyone's guess, so that it uses all of 0 … 255."""
    values = np.asarray(image, np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise PictureError("holds NaN or infinite values")
    notes.append(f"{low:g} … {high:g} of its grey stretched to 0 … 255")
    scaled = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def working_size(width: int, height: int, size: int | None) -> tuple[int, int]:
    """(width, height) with the shorter side brought down to `size`; never up. None: as it is."""
    short = min(width, height)
    if size is None or short <= size:
        return width, height
    return round(width * size / short), round(height * size / short)
