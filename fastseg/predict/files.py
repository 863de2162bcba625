"""Which pictures are meant, where their results go, and how a file is written whole."""

import glob
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CLASSES",
    "JOURNAL",
    "OUTPUTS",
    "SUPERPIXELS",
    "Source",
    "find_pictures",
    "name_outputs",
    "readable",
    "write",
]

# In a folder only these are taken for pictures. HEIF is named so that it is not passed over in
# silence: it is tried, and Pillow says that it cannot read it.
SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
# An output folder is known by its journal, of masks, superpixels or label maps; what lies in these
# folders beside one is never input.
JOURNAL, SUPERPIXELS, CLASSES = "fastseg.jsonl", "superpixels.jsonl", "classes.jsonl"
OUTPUTS = ("masks", "overlays", "sheet", "labels", "boundaries", "colours")


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to segment."""

    path: str  #: as the user wrote it, joined with what was found below
    stem: str  #: its place below the folder or pattern that it was found by, without suffix

    @property
    def key(self) -> str:
        """The absolute path: what tells pictures apart."""
        return os.path.abspath(self.path)


def find_pictures(paths: Iterable[str], out: str | None = None) -> list[Source]:
    """The pictures that files, folders (all below) and glob patterns (`**` too) name, each once.

    What folders and patterns find is taken if it has a picture's suffix and is not hidden; links to
    folders below a folder are not followed. A file named itself is always taken, even one that does
    not exist. The results in `out`, and those of other runs below a folder, never are.
    """
    ours = tuple(os.path.join(os.path.abspath(out), name, "") for name in OUTPUTS) if out else ()
    found: dict[str, Source] = {}
    for path in paths:
        for source in _expand(path):
            if not source.key.startswith(ours):
                found.setdefault(source.key, source)
    return list(found.values())


def _expand(path: str) -> Iterator[Source]:
    if os.path.isdir(path):
        yield from _walk(path, path)
    elif not os.path.lexists(path) and (matches := sorted(glob.glob(path, recursive=True))):
        root = _fixed_part(path)
        for match in matches:
            if os.path.isdir(match):
                yield from _walk(match, root)
            elif _is_picture(match):
                yield Source(match, _stem(match, root))
    else:
        yield Source(path, _stem(path, os.path.dirname(path)))


def _walk(folder: str, root: str) -> Iterator[Source]:
    unreadable: list[str] = []
    for here, folders, names in os.walk(folder, onerror=lambda e: unreadable.append(e.filename)):
        skip = OUTPUTS if {JOURNAL, SUPERPIXELS, CLASSES} & set(names) else ()
        folders[:] = sorted(f for f in folders if f not in skip and not f.startswith("."))
        for name in sorted(names):
            if _is_picture(name):
                path = os.path.join(here, name)
                yield Source(path, _stem(path, root))
    for path in unreadable:
        yield Source(path, _stem(path, root))


def _is_picture(path: str) -> bool:
    name = os.path.basename(path)
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _stem(path: str, root: str) -> str:
    return os.path.splitext(os.path.relpath(path, root or os.curdir))[0]


def _fixed_part(pattern: str) -> str:
    """The folder that a pattern starts from: "a/b" of "a/b/*/c.jpg"."""
    while any(c in pattern for c in "*?["):
        pattern = os.path.dirname(pattern)
    return pattern


def name_outputs(sources: Iterable[Source], claimed: Mapping[str, str]) -> dict[str, str]:
    """Source key → stem of its results, no two alike even where case does not count.

    A picture keeps the stem that an earlier run gave it (`claimed`). Of several pictures with one
    stem the first gets it, the next `stem_2`, `stem_3`, …
    """
    names = dict(claimed)
    taken = {stem.casefold() for stem in claimed.values()}
    counts: dict[str, int] = {}
    for source in sources:
        if source.key in names:
            continue
        stem = source.stem
        while stem.casefold() in taken:
            counts[source.stem] = counts.get(source.stem, 1) + 1
            stem = f"{source.stem}_{counts[source.stem]}"
        names[source.key] = stem
        taken.add(stem.casefold())
    return names


def readable(path: str) -> str:
    """`path` with the bytes that are not UTF-8 replaced, so that it can be printed and written."""
    return os.fsencode(path).decode("utf-8", "replace")


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{uuid.uuid4().hex}.part"  # no other process's, on any machine
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
