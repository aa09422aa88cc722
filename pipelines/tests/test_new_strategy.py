"""``research/docs/new_strategy.md`` is true: its module and its line are a strategy, in sweep, paper and notebooks."""

import json
import os
import re
import shutil
import subprocess
import sys

from pipelines.identity import CHECKOUT
from research import jit

PAGE = (CHECKOUT / "research" / "docs" / "new_strategy.md").read_text()


def block(language: str) -> str:
    """The page's block in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[1]


def test_one_module_and_one_line_are_a_strategy_in_sweep_paper_and_notebooks(synthetic_lake, tmp_path):
    ours = tmp_path / "ours"
    strategies = ours / "research" / "strategies"
    shutil.copytree(CHECKOUT / "research" / "strategies", strategies)
    for entry in (CHECKOUT / "research").iterdir():
        if entry.name != "strategies":
            (ours / "research" / entry.name).symlink_to(entry)
    (strategies / "reversal.py").write_text(block("python"))
    registry = (strategies / "registry.py").read_text()
    (strategies / "registry.py").write_text(registry.replace("    )\n", f"{block('text')}    )\n"))
    (tmp_path / "reversal.toml").write_text(block("toml"))
    lake = shutil.copytree(synthetic_lake.root, tmp_path / "lake")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.tests.new_strategy_run", tmp_path / "reversal.toml", lake, tmp_path,
         jit.numba.config.CACHE_DIR],
        cwd=ours, env={**os.environ, jit.SWITCH: "1", "PYTHONPATH": f"{ours}:{CHECKOUT}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])  # notebooks say on the way what they do
    assert (told["strategy"], told["swept"]) == ("reversal", 4)
    assert told["paper"] > 0
    assert "reversal on BTCUSDT" in told["notebook 04"]
    assert "reversal" in told["notebook 05"]
