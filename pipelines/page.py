"""The shell of every page we write: colours, theme switch, figures that draw when seen; nothing is ever loaded."""

import base64
import hashlib
from html import escape
from pathlib import Path

from research.plots.bundle import embedded, plotly_javascript
from research.plots.style import CONFIG, DARK, FONT, TEMPLATE, TOKENS, Figure, for_page

MAX_BYTES = 8_000_000

_HERE = Path(__file__).parent


class Figures:
    """Numbers the figures of a page and keeps their drawings until the end of the body."""

    def __init__(self) -> None:
        self.blocks: list[str] = []

    def card(self, figure: Figure) -> str:
        """The figure's place in the page: title, drawing, caption."""
        drawing = for_page(figure)
        title, caption = escape(drawing.pop("title")), escape(drawing.pop("caption"))
        name = f"figure-{len(self.blocks) + 1}"
        self.blocks.append(_data_block(name, drawing))
        heights = f"--wide:{drawing['layout']['height']}px;--narrow:{drawing['narrow']['layout']['height']}px"
        return (
            f'<figure class="card"><h3>{title}</h3>'
            f'<div class="drawing" data-figure="{name}" style="{heights}" role="img" aria-label="{title}. {caption}">'
            f"</div><figcaption>{caption}</figcaption></figure>\n"
        )


def page_html(title: str, body: str, figures: Figures, style: str = "") -> str:
    """A whole document.

    Parameters
    ----------
    title : text. ``body`` is HTML whose text is escaped already, ``style`` more CSS.
    figures : those whose cards stand in ``body``.
    """
    shared = {"config": CONFIG, "dark": DARK, "template": TEMPLATE.to_plotly_json()}
    # The page names the scripts it will run by their hash: text that slipped through could not run.
    scripts = [*([plotly_javascript()] if figures.blocks else []), (_HERE / "report.js").read_text()]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
            f"<title>{escape(title)}</title>\n<style>{_style()}{style}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#content">Skip to content</a>\n',
            f'<header class="top"><span>{escape(title)}</span>',
            '<button type="button" id="theme" hidden>Dark</button></header>\n',
            f'<main id="content">\n{body}</main>\n',
            "<noscript>Figures need JavaScript; all numbers and captions are above as text.</noscript>\n",
            *figures.blocks,
            _data_block("shared", shared),
            *(f"<script>{script}</script>\n" for script in scripts),
            "</body>\n</html>\n",
        ]
    )


def _data_block(name: str, content: dict) -> str:
    return f'<script type="application/json" id="{name}">{embedded(content)}</script>\n'


def _style() -> str:
    light, dark = ("".join(f"--{name}:{both[i]};" for name, both in TOKENS.items()) for i in (0, 1))
    return (
        f":root{{color-scheme:light;--font:{FONT};{light}}}\n"
        f"@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
        f"{(_HERE / 'report.css').read_text()}"
    )
