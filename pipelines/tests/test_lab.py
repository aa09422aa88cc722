"""What JupyterLab is given beside the notebooks: figures in the colours of its theme, by Plotly's own renderer."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.identity import CHECKOUT
from pipelines.notebooks import PLOTLY_MIME
from research import plots
from research.plots.style import DARK

FIGURES = CHECKOUT / "pipelines" / "lab" / "extensions" / "aster-figures"
PLOTLY = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "jupyterlab-plotly"
PAPER = "document.querySelector('.main-svg')?.style.background"
PAGE = """<!doctype html><meta charset="utf-8"><body data-jp-theme-light="{is_light}"><script src="{plotly}"></script>
<script src="{figures}"></script><script>
const output = {{ data: {stored}, metadata: {{}}, trusted: true, setData({{ data }}) {{ output.data = data; }} }};
(async () => {{
  await _JUPYTERLAB["jupyterlab-plotly"].init({{}});
  await _JUPYTERLAB["aster-figures"].get("./index");
  const {{ rendererFactory }} = (await _JUPYTERLAB["jupyterlab-plotly"].get("./mimeExtension"))().default[0];
  const renderer = rendererFactory.createRenderer({{ mimeType: "{mime}" }});
  document.body.append(renderer.node);
  await renderer.renderModel(output);
}})();
</script></body>"""


@pytest.fixture
def shown(browser, tmp_path):
    """Shows a figure as JupyterLab does, by its own extensions and in a theme of it; what a cell has stored of it."""

    def show(*, is_light: bool) -> dict:
        days = pl.DataFrame({"time": [datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6)], "equity_usdt": [0.0, 5.0]})
        days = days.with_columns(drawdown_usdt=pl.lit(0.0), exposure_usdt=pl.lit(1_000.0), is_oos=pl.lit(True))
        figure = json.loads(plots.plot_equity(days, title="Equity").to_json())
        stored = {PLOTLY_MIME: figure}
        page = tmp_path / "page.html"
        page.write_text(
            PAGE.format(
                is_light=str(is_light).lower(),
                plotly=(PLOTLY / entry(PLOTLY)).as_uri(),
                figures=(FIGURES / entry(FIGURES)).as_uri(),
                stored=json.dumps(stored),
                mime=PLOTLY_MIME,
            )
        )
        browser.open(page, 1024, 700)
        return stored

    return show


def entry(extension: Path) -> str:
    return json.loads((extension / "package.json").read_text())["jupyterlab"]["_build"]["load"]


def test_the_palette_is_that_of_the_pages():
    script = (FIGURES / entry(FIGURES)).read_text()
    assert json.loads(re.search(r"const DARK = (\{.*?\});", script, flags=re.DOTALL)[1]) == DARK


def test_a_figure_follows_the_theme_and_its_saved_picture_does_not(browser, shown):
    stored = shown(is_light=True)
    browser.wait_for(f"{PAPER} === 'rgb(255, 255, 255)' && output.data['image/png']")
    on_paper = browser.evaluate("output.data['image/png']")
    browser.evaluate("document.body.dataset.jpThemeLight = 'false'")
    browser.wait_for(f"{PAPER} === 'rgb(22, 27, 35)'")
    browser.evaluate("document.body.dataset.jpThemeLight = 'true'")
    browser.wait_for(f"{PAPER} === 'rgb(255, 255, 255)'")
    shown(is_light=False)
    browser.wait_for(f"{PAPER} === 'rgb(22, 27, 35)' && output.data['image/png']")
    assert browser.evaluate("output.data['image/png']") == on_paper
    assert browser.evaluate(f"output.data['{PLOTLY_MIME}']") == stored[PLOTLY_MIME]
    assert browser.complaints == []
