"""The contact sheet: index.html and its further pages, which need only the files beside them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Generic
from urllib.parse import quote

from .files import readable, write
from .journal import AnyRow, Row
from .render import PANEL_SIDE

__all__ = ["Sheet", "write_sheet"]

PER_PAGE = 500

STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --dim: #60646c; --page: #fcfcfd; --card: #fff;
  --line: #e0e1e6; --bad: #c62a2f; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --dim: #a0a4ab; --page: #111113;
  --card: #18191b; --line: #2e3135; --bad: #ff8b8f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem; color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.4rem; }
header p, nav { margin: .25rem 0; color: var(--dim); }
a { color: inherit; }
.columns, .panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; }
.columns { position: sticky; top: 0; z-index: 1; margin-top: 1rem; padding: .5rem .75rem;
  color: var(--dim); background: var(--page); border-bottom: 1px solid var(--line); }
article { margin: .75rem 0; padding: .75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; content-visibility: auto;
  contain-intrinsic-size: auto 18rem; }
.panels > * { display: block; border: 1px solid var(--line); border-radius: .25rem; }
img { display: block; width: 100%; height: auto; max-height: 18rem; object-fit: contain;
  background: var(--page); }
h2 { margin: .6rem 0 0; font-size: 1rem; overflow-wrap: anywhere; }
article p { margin: 0; color: var(--dim); font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.failed { border-color: var(--bad); }
.failed h2 { margin: 0; }
.failed .note { color: var(--bad); }
@media (max-width: 40rem) { .columns { display: none; }
  .panels { grid-template-columns: repeat(2, 1fr); } }
"""


@dataclass(frozen=True)
class Sheet(Generic[AnyRow]):
    """What is shown of each picture."""

    title: str
    panels: Mapping[str, str]  #: name → suffix of the small picture in sheet/, "image" the first
    full: Mapping[str, str]  #: name → the file that it links to, with {stem} in it
    facts: Callable[[AnyRow], list[str]]  #: what is said of it

    def has(self, out: Path, row: AnyRow) -> bool:
        """Whether all its small pictures are there."""
        return all((out / self.small(row, name)).exists() for name in self.panels)

    def small(self, row: AnyRow, name: str) -> str:
        return f"sheet/{row.stem}{self.panels[name]}"


def write_sheet(
    out: Path, sheet: Sheet[AnyRow], rows: Sequence[tuple[str, AnyRow]], facts: Sequence[str]
) -> None:
    """Write out/index.html, index-2.html, … with `PER_PAGE` pictures each.

    Args:
        sheet: what is shown.
        rows: absolute path and row of each picture.
        facts: lines of text for the head.
    """
    pages = max(1, -(-len(rows) // PER_PAGE))
    for page in range(1, pages + 1):
        part = rows[(page - 1) * PER_PAGE : page * PER_PAGE]
        cards = "\n".join(_card(out, sheet, source, row) for source, row in part)
        write(out / _page_name(page), _page(sheet, cards, facts, page, pages).encode())
    # Pages that an earlier, longer sheet has left.
    page = pages + 1
    while (stale := out / _page_name(page)).exists():
        stale.unlink()
        page += 1


def _page_name(page: int) -> str:
    return "index.html" if page == 1 else f"index-{page}.html"


def _page(sheet: Sheet, cards: str, facts: Sequence[str], page: int, pages: int) -> str:
    numbers = [
        f"<b>{n}</b>" if n == page else f'<a href="{_page_name(n)}">{n}</a>'
        for n in range(1, pages + 1)
    ]
    nav = f"<nav>Page {' '.join(numbers)}</nav>" if pages > 1 else ""
    head = "\n".join(f"<p>{escape(fact)}</p>" for fact in facts)
    columns = "".join(f"<span>{name}</span>" for name in sheet.panels)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastseg: contact sheet</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(sheet.title)}</h1>
{head}
{nav}
</header>
<div class="columns">{columns}</div>
<main>
{cards}
</main>
{nav}
</body>
</html>
"""


def _card(out: Path, sheet: Sheet[AnyRow], source: str, row: AnyRow) -> str:
    head = f"<h2>{escape(readable(row.stem))}</h2><p>{escape(row.file)}</p>"
    if not row.ok:
        return f'<article class="failed">{head}<p class="note">{escape(row.note)}</p></article>'
    full = {"image": os.path.relpath(source, out.absolute())}
    for name, pattern in sheet.full.items():
        if (out / (path := pattern.format(stem=row.stem))).exists():
            full[name] = path
    panels = "".join(
        _panel(row, name, sheet.small(row, name), full.get(name)) for name in sheet.panels
    )
    facts = " · ".join(map(escape, sheet.facts(row)))
    return f'<article><div class="panels">{panels}</div>{head}<p>{facts}</p></article>'


def _panel(row: Row, name: str, small: str, full: str | None) -> str:
    width, height = row.width or 1, row.height or 1
    scale = PANEL_SIDE / max(width, height)
    image = (
        f'<img loading="lazy" alt="{name}" src="{_url(small)}"'
        f' width="{max(1, round(width * scale))}" height="{max(1, round(height * scale))}">'
    )
    return f'<a href="{_url(full)}">{image}</a>' if full else f"<div>{image}</div>"


def _url(path: str) -> str:
    return quote(os.fsencode(path.replace(os.sep, "/")))
