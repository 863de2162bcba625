"""Which pictures `fastseg.predict` reads, and what it says of others."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.predict import segment
from fastseg.predict.pictures import read_picture
from tests.squares import QUICK, load, masks, square, table

# --- what is read ------------------------------------------------------------------------------


def gradient16():
    return np.linspace(300, 4095, 24 * 24).reshape(24, 24)


def cmyk(path):
    square().convert("CMYK").save(path)


def sixteen(path):
    Image.fromarray(gradient16().astype(np.uint16)).save(path)


def floating(path):
    Image.fromarray((gradient16() / 5000).astype(np.float32)).save(path)


def animated(path):
    frames = [square(24, (10 * i, 255, 0)) for i in range(12)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def turned(path):
    picture = Image.new("RGB", (30, 24), "blue")
    picture.paste("red", (0, 0, 30, 6))  # a band at the top, which is at the left when upright
    exif = Image.Exif()
    exif[0x0112] = 8
    picture.save(path, exif=exif, quality=95)


def transparent(path):
    picture = square().convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) * 11, (24, 1))))
    picture.save(path)


def palette(path):
    square().convert("P", palette=Image.Palette.ADAPTIVE).save(path)


READABLE = {
    "cmyk.jpg": (cmyk, "CMYK, converted without its colour profile"),
    "sixteen.png": (sixteen, "300 … 4095 of its grey stretched to 0 … 255"),
    "float.tif": (floating, r"0.06 … 0.819 of its grey stretched to 0 … 255"),
    "animated.gif": (animated, "first of 12 frames"),
    "animated.webp": (animated, "first of 12 frames"),
    "turned.jpg": (turned, r"turned upright \(EXIF orientation 8\)"),
    "rgba.png": (transparent, "transparency laid on white"),
    "palette.png": (palette, ""),
    "grey.png": (lambda path: square().convert("L").save(path), ""),
    "grey_alpha.png": (lambda path: square().convert("LA").save(path), ""),
    "bits.png": (lambda path: square().convert("1").save(path), ""),
    "ycbcr.tif": (lambda path: square().convert("YCbCr").save(path), ""),
    "plain.ppm": (lambda path: square().save(path), ""),
    "named.dat": (lambda path: square().save(path, "PNG"), ""),
}


@pytest.mark.parametrize("name", READABLE)
def test_readable(tmp_path, name):
    make, note = READABLE[name]
    make(tmp_path / name)
    (row,) = segment([str(tmp_path / name)], tmp_path / "out", QUICK).rows
    assert row.status != "failed", row.note
    assert re.fullmatch(note, row.note)
    shape = (30, 24) if name == "turned.jpg" else (24, 24)
    assert load(tmp_path / "out" / "masks" / f"{Path(name).stem}.png").shape == shape


def test_pixels_are_what_the_note_says(tmp_path):
    turned(tmp_path / "turned.jpg")
    pixels = np.asarray(read_picture(str(tmp_path / "turned.jpg"))[0]).astype(int)
    assert (pixels[:, :4, 0] > 200).all()
    assert (pixels[:, 10:, 2] > 200).all()
    sixteen(tmp_path / "sixteen.png")
    grey = np.asarray(read_picture(str(tmp_path / "sixteen.png"))[0])[..., 0]
    assert grey.min() == 0
    assert grey.max() == 255
    assert np.allclose(grey, (gradient16() - 300) * 255 / 3795, atol=1)
    transparent(tmp_path / "rgba.png")
    rgb = np.asarray(read_picture(str(tmp_path / "rgba.png"))[0])
    assert (rgb[:, 0] == 255).all()
    assert np.allclose(rgb[0, 23], np.array([30, 60, 200]) * (253 / 255) + 2, atol=1)
    palette(tmp_path / "palette.png")
    exact = np.asarray(read_picture(str(tmp_path / "palette.png"))[0])
    assert np.array_equal(exact, np.asarray(square()))


def bomb(path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def truncated(path):
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def not_a_number(path):
    Image.fromarray(np.full((24, 24), np.nan, np.float32)).save(path)


UNREADABLE = {
    "bomb.png": (bomb, "more than 178 million pixels: refused as a bomb"),
    "truncated.jpg": (truncated, "cannot be decoded: image file is truncated.*"),
    "truncated.png": (truncated, "cannot be decoded: .*"),
    "empty.jpg": (Path.touch, "the file is empty"),
    "text.png": (lambda path: path.write_text("no picture"), "not a picture that Pillow can read"),
    "postscript.eps": (lambda path: square().save(path), "not a picture that Pillow can read"),
    "nan.tif": (not_a_number, "holds NaN or infinite values"),
    "missing.png": (lambda path: None, "no such file"),
    "pipe.png": (os.mkfifo, "not a regular file"),
}


def test_unreadable_files_are_named_and_the_others_go_on(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, (make, _) in UNREADABLE.items():
        make(tmp_path / "in" / name)
    square().save(tmp_path / "in" / "good.png")
    names = [*UNREADABLE, "good.png"]
    paths = [str(tmp_path / "in" / name) for name in names]
    report = segment(paths, tmp_path / "out", QUICK, progress=True)
    assert [row.status == "failed" for row in report.rows] == [True] * len(UNREADABLE) + [False]
    complaints = capsys.readouterr().err
    for name, row in zip(names[:-1], report.rows, strict=False):
        assert re.fullmatch(UNREADABLE[name][1], row.note), (name, row.note)
        assert f"{tmp_path / 'in' / name}: {row.note}\n" in complaints
    assert list(masks(tmp_path / "out")) == ["good.png"]
    listed = {os.path.basename(row["file"]): row for row in table(tmp_path / "out")}
    assert listed["empty.jpg"]["note"] == "the file is empty"
    assert listed["empty.jpg"]["mask"] == ""
    # They are tried again: here one has been repaired.
    square().save(tmp_path / "in" / "empty.jpg")
    again = segment(paths, tmp_path / "out", QUICK)
    assert again.kept == 1
    assert len(again.failed) == len(UNREADABLE) - 1


def test_pictures_of_one_pixel_or_one_colour(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (1, 50)).save(tmp_path / "line.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "flat.png")
    rows = segment([str(tmp_path / "*.png")], tmp_path / "out", QUICK).rows
    assert [row.status != "failed" for row in rows] == [True] * 3
    assert {row.stem: row.status for row in rows}["dot"] == "emptied"
