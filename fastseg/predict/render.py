"""From arrays to encoded files: the mask, the overlay, the panels of the contact sheet."""

import io

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

__all__ = ["PANELS", "colours", "encode", "full_mask", "overlay", "panels", "pixels", "small"]

# What the contact sheet shows of a picture → the suffix of its file.
PANELS = {
    "image": ".image.jpg",
    "mask": ".mask.png",
    "overlay": ".overlay.jpg",
    "inpainted": ".inpainted.jpg",
}
PANEL_SIDE = 320
OUTLINE = (255, 64, 129)
GREY = (128, 128, 128)


def pixels(picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """The picture at `size` (width, height), antialiased: uint8 (1,3,h,w)."""
    # Of Pillow's filters Hamming's gives the best masks on photographs: sharp, without ringing.
    small = picture.resize(size, Image.Resampling.HAMMING)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]


def full_mask(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A working mask (h,w) bool at the picture's size (width, height): 0 or 255, smooth edges."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    if image.size == size:
        return image
    # The blur, of one working pixel, takes the steps out of slanting edges; they stay in place.
    soft = image.filter(ImageFilter.GaussianBlur(1)).resize(size, Image.Resampling.BICUBIC)
    return soft.point(lambda v: 255 * (v >= 128))


def overlay(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The foreground as it is, outlined, over a faded background."""
    faded = ImageEnhance.Color(picture).enhance(0.3)
    faded = Image.blend(faded, Image.new("RGB", picture.size, GREY), 0.6)
    faded.paste(picture, mask=mask)
    edge = mask.filter(ImageFilter.GaussianBlur(max(1.0, max(picture.size) / 400)))
    faded.paste(OUTLINE, mask=edge.point(lambda v: 255 * (50 < v < 205)))
    return faded


def small(
    picture: Image.Image, resampling: Image.Resampling = Image.Resampling.HAMMING
) -> Image.Image:
    """The picture at the size of the contact sheet's."""
    scale = PANEL_SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, resampling)


def colours(count: int) -> np.ndarray:
    """(count,3) uint8: colours far from each other, the same for the same place in the list."""
    places = np.arange(count)
    hues = places * 0.61803398875 % 1  # steps by the golden ratio never meet
    light = 0.95 - 0.18 * (places // 8 % 3)
    angles = 2 * np.pi * (hues[:, None] - np.array([0, 1 / 3, 2 / 3]))
    return np.rint(255 * light[:, None] * (0.5 + 0.45 * np.cos(angles))).astype(np.uint8)


def panels(picture: Image.Image, mask: Image.Image, inpainted: np.ndarray) -> dict[str, bytes]:
    """Suffix → content of a picture's files in the sheet; inpainted (h,w,3) uint8."""
    image, small_mask = small(picture), small(mask, Image.Resampling.BOX)
    content = {
        "image": image,
        "mask": small_mask,
        "overlay": overlay(image, small_mask.point(lambda v: 255 * (v >= 128))),
        "inpainted": Image.fromarray(inpainted).resize(image.size, Image.Resampling.BICUBIC),
    }
    return {suffix: encode(content[name], suffix) for name, suffix in PANELS.items()}


def encode(image: Image.Image, name: str) -> bytes:
    """The picture as a PNG or JPEG file, by the suffix of `name`."""
    file = io.BytesIO()
    if name.endswith(".png"):
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=88)
    return file.getvalue()
