"""Runner and watchdog begin together and end together; what one says stands where it can be read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from data.tests.loopback_client import run as with_exchange
from live.heartbeat import read_beat
from live.tests.conftest import _without_none, a_config
from live.tests.paper_run import OFTEN, START, market
from pipelines.identity import CHECKOUT

PATIENCE_S = 120.0
