import subprocess
import sys
from pathlib import Path

import plotly.io as pio
import pytest

from research.plots.bundle import embedded, plotly_javascript


def test_the_library_is_the_one_that_was_vendored(tmp_path: Path):
    assert plotly_javascript().startswith("/**\n* plotly.js (cartesian - minified) v4.1.1")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  plotly.js\n")
    with pytest.raises(LookupError, match="do not load it from a network"):
        plotly_javascript(tmp_path)
    (tmp_path / "plotly.js").write_text("alert(1)")
    with pytest.raises(ValueError, match="expected 0000"):
        plotly_javascript(tmp_path)


def test_data_in_a_page_cannot_end_its_script():
    assert embedded({"title": "</script><b>"}) == '{"title":"\\u003c/script>\\u003cb>"}'


def test_no_renderer_offers_to_upload_a_figure():
    configs = [
        renderer.config for renderer in map(pio.renderers.__getitem__, pio.renderers) if hasattr(renderer, "config")
    ]
    assert len(configs) > 5
    assert all(config["showSendToCloud"] is False and config["plotlyServerURL"] == "" for config in configs)


def test_figures_in_a_notebook_keep_their_height_when_its_tab_is_shown_again():
    assert pio.renderers["plotly_mimetype"].config["responsive"] is False


def test_importing_the_figures_does_not_load_pandas():
    code = "import research.plots, pipelines.report, sys; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
