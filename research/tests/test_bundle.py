import json
import subprocess
import sys
from pathlib import Path

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


def test_in_a_notebook_no_renderer_offers_to_upload_a_figure():
    code = """
import IPython, json
import research.plots, plotly.io as pio
print(json.dumps({name: getattr(pio.renderers[name], "config", None) for name in pio.renderers}))
"""
    told = {name: config for name, config in json.loads(printed(code)).items() if config is not None}
    assert len(told) > 5
    assert all(config["showSendToCloud"] is False and config["plotlyServerURL"] == "" for config in told.values())
    # a responsive figure loses its height when the tab of its notebook is shown again
    assert told["plotly_mimetype"]["responsive"] is False


def test_importing_the_figures_loads_neither_pandas_nor_what_only_notebooks_need():
    code = """
import research.plots, pipelines.report, sys
print(sorted(sys.modules.keys() & {"pandas", "IPython", "nbformat", "jsonschema"}))
"""
    assert printed(code) == "[]"


def printed(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
