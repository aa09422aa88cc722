"""Which runners do without a compiler."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from live import plain
from research import jit
from research.sizing import OpenInterestSize

ROOT = Path(__file__).parents[2]
BEGUN = """
import os, sys
from pathlib import Path
import live.runner
from live.plain import SWITCH, leave_compiler_out

os.execv = lambda program, arguments: print("anew", os.environ[SWITCH], arguments[-2:] == sys.argv[1:])
for chosen in sys.argv[1:]:
    os.environ.pop(SWITCH, None)
    sys.modules.pop("research.jit", None)
    leave_compiler_out([Path(chosen)])
    print(os.environ[SWITCH])
from live import runs
print("numba" in sys.modules)
"""


def test_a_runner_is_plain_and_begins_anew_with_a_compiler_for_a_config_with_a_map(config, promoted):
    sized = replace(config(), orders=replace(config().orders, open_interest_size=OpenInterestSize()))
    files = promoted(config()), promoted(sized, "sized.toml")
    environment = {name: value for name, value in os.environ.items() if name != plain.SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", BEGUN, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["1", "anew 0 True", "0", "False"]


def test_where_research_is_there_already_nothing_changes(monkeypatch):
    monkeypatch.delenv(plain.SWITCH, raising=False)
    plain.leave_compiler_out([])
    assert plain.SWITCH == jit.SWITCH and plain.SWITCH not in os.environ
