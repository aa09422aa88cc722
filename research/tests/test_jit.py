"""Compiled or not, a function gives the same bits: what a runner decides without a compiler is what was swept."""

import json
import os
import subprocess
import sys
from pathlib import Path

from research.jit import SWITCH
from research.tests.both_ways import answers

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("ASTER_BOTH_WAYS", "30"))


def test_plain_python_gives_the_compiled_bits():
    command = [sys.executable, "-m", "research.tests.both_ways", "7", str(COUNT)]
    plain = os.environ | {SWITCH: "1"}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, is_compiled = json.loads(done.stdout)
    assert not is_compiled and not done.stderr
    for expected, told in zip(answers(7, COUNT), found, strict=True):
        assert told == expected
