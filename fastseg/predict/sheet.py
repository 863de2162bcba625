"""The contact sheet: index.html and its further pages, which need only the files beside them."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from .files import readable, write
from .masks import MaskRow
from .render import PANEL_SIDE, PANELS

__all__ = ["write_sheet"]

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


def write_sheet(out: Path, rows: Sequence[tuple[str, MaskRow]], facts: Sequence[str]) -> None:
    """Write out/index.html, index-2.html, … with `PER_PAGE` pictures each.

    Args:
        rows: absolute path and row of each picture.
        facts: lines of text for the head.
    """
    pages = max(1, -(-len(rows) // PER_PAGE))
    for page in range(1, pages + 1):
        part = rows[(page - 1) * PER_PAGE : page * PER_PAGE]
        cards = "\n".join(_card(out, source, row) for source, row in part)
        write(out / _page_name(page), _page(cards, facts, page, pages).encode())
    # Pages that an earlier, longer sheet has left.
    page = pages + 1
    while (stale := out / _page_name(page)).exists():
        stale.unlink()
        page += 1


def _page_name(page: int) -> str:
    return "index.html" if page == 1 else f"index-{page}.html"


def _page(cards: str, facts: Sequence[str], page: int, pages: int) -> str:
    numbers = [
        f"<b>{n}</b>" if n == page else f'<a href="{_page_name(n)}">{n}</a>'
        for n in range(1, pages + 1)
    ]
    nav = f"<nav>Page {' '.join(numbers)}</nav>" if pages > 1 else ""
    head = "\n".join(f"<p>{escape(fact)}</p>" for fact in facts)
    columns = "".join(f"<span>{name}</span>" for name in PANELS)
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
<h1>Foreground masks</h1>
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


def _card(out: Path, source: str, row: MaskRow) -> str:
    head = f"<h2>{escape(readable(row.stem))}</h2><p>{escape(row.file)}</p>"
    if not row.ok:
        return f'<article class="failed">{head}<p class="note">{escape(row.note)}</p></article>'
    full = {
        "image": os.path.relpath(source, out.absolute()),
        "mask": f"masks/{row.stem}.png",
        "overlay": f"overlays/{row.stem}.jpg",
    }
    if not (out / full["overlay"]).exists():
        del full["overlay"]
    panels = "".join(_panel(row, name, full.get(name)) for name in PANELS)
    facts = " · ".join(map(escape, _facts(row)))
    return f'<article><div class="panels">{panels}</div>{head}<p>{facts}</p></article>'


def _panel(row: MaskRow, name: str, full: str | None) -> str:
    width, height = row.width or 1, row.height or 1
    scale = PANEL_SIDE / max(width, height)
    image = (
        f'<img loading="lazy" alt="{name}" src="{_url(f"sheet/{row.stem}{PANELS[name]}")}"'
        f' width="{max(1, round(width * scale))}" height="{max(1, round(height * scale))}">'
    )
    return f'<a href="{_url(full)}">{image}</a>' if full else f"<div>{image}</div>"


def _facts(row: MaskRow) -> list[str]:
    facts = [
        row.size.replace("x", " × "),
        f"foreground {row.foreground:.1%}",
        f"inpainting error {row.error:.3f}",
        f"{row.steps} steps, {row.status.replace('_', ' ')}",
        f"{row.seconds:.2f} s",
    ]
    if row.scores:
        facts.append(f"IoU {row.scores['iou']:.1%} (oracle {row.scores['oracle_iou']:.1%})")
    return facts + ([row.note] if row.note else [])


def _url(path: str) -> str:
    return quote(os.fsencode(path.replace(os.sep, "/")))
