"""A program of its own that is killed just before it touches a file for the nth time."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# what such a program begins with; it is in danger from ``sys.addaudithook(strike)`` on
STRIKE = """
import os, signal, sys

left = int(sys.argv[1])

def strike(event, _):
    global left
    if event in ("open", "os.rename", "os.remove", "sqlite3.connect"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

"""


def main_of(module: str) -> str:
    """The program that runs the ``main`` of a module."""
    return f"{STRIKE}from {module} import main\nsys.addaudithook(strike)\nsys.exit(main(sys.argv[2:]))\n"


def struck(program: str, touches: int, *arguments: str) -> bool:
    """Run it to the end or to its death; whether it was killed."""
    command = [sys.executable, "-c", program, str(touches), *arguments]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.returncode in (-signal.SIGKILL, 0), run.stderr
    return run.returncode != 0
