"""``aster bench record``: what receiving, decoding and logging costs, beside a collector as there was before.

One process sends frames over TCP on this machine, without encryption; another one receives them. What counts is the
processor time of the receiver while it never waits, the best of three runs: other work on the machine only adds time.
"""

import json
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from data.benchmarks.figures import figure
from data.benchmarks.frames import mixed_frames
from data.benchmarks.receivers import percentile_99
from data.benchmarks.sender import Sender
from data.recorder_config import RecorderConfig

_FRAMES = 120_000
_COLLECTED = 10_000
_PACED = 15_000
_PACE = 5_000  # frames a second
_RARELY_S = 0.01
_RUNS = 3
_BASELINE = "collector: websocket-client, json.loads, CSV"
_COLLECTOR_THERE = 22_800.0  # frames/s of prior-art 004 itself, on the machine that the targets were set on

TARGET_FRAMES_PER_SECOND = 300_000.0
TARGET_CORE = 0.05
TARGET_WRITTEN_MS = 1.0
TARGET_SYNCED_MS = 250.0


def bench_record(real_data: Path | None = None) -> list[dict]:
    """Figures of both sides: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Parameters
    ----------
    real_data : folder of the real recordings, which the frames are made of where it is there.
    """
    frames = mixed_frames(_FRAMES, real_data)
    alone = max((measure("ours", frames) for _ in range(_RUNS)), key=_rate)
    pair = max((measure("ours", frames[: _FRAMES // 2], sockets=2) for _ in range(_RUNS)), key=_rate)
    collector = max((measure("collector", frames[:_COLLECTED]) for _ in range(_RUNS)), key=_rate)
    sides = ("ours", "prompt", "counting", "looping", "writing", "reading")
    paced = {
        each: min((measure(each, frames[:_PACED], pace=_PACE) for _ in range(_RUNS)), key=_share) for each in sides
    }
    rarely = min((measure("ours", frames[:_PACED], pace=_PACE, every_s=_RARELY_S) for _ in range(_RUNS)), key=_share)
    mean_bytes = sum(map(len, frames)) / len(frames)
    return [
        figure(
            f"received, decoded and logged, all different, {mean_bytes:.0f} bytes each, one core saturated",
            _rate(alone),
            "frames/s",
            baseline=_BASELINE,
            baseline_value=_rate(collector),
            at_least=TARGET_FRAMES_PER_SECOND,
        ),
        figure("the same over a pair of sockets, every message twice", _rate(pair), "frames/s"),
        figure(
            f"processor time at {_PACE:,} frames/s, those of a millisecond in one packet, "
            f"read every {RecorderConfig.read_pause_ms:g} ms as long as so many come",
            _share(paced["ours"]),
            "cores",
            baseline="the same connection, frames only counted",
            baseline_value=_share(paced["counting"]),
            at_most=TARGET_CORE,
        ),
        figure("the same, each packet read when it comes", _share(paced["prompt"]), "cores"),
        figure(
            f"the same, those of {_RARELY_S * 1e3:.0f} ms in one packet: what it costs is to wake up",
            _share(rarely),
            "cores",
        ),
        figure(
            "of packets of a millisecond, to read the bytes in an event loop and write them, no frame looked at",
            _share(paced["looping"]),
            "cores",
        ),
        figure("of that, without an event loop", _share(paced["writing"]), "cores"),
        figure("of that, to read the bytes and nothing else", _share(paced["reading"]), "cores"),
        figure(
            "sent to stamped, the first frame of each read",
            paced["ours"]["late_ms"],
            "ms, 99th percentile",
            baseline="each packet read when it comes",
            baseline_value=paced["prompt"]["late_ms"],
        ),
        figure("received to written", paced["ours"]["written_ms"], "ms, 99th percentile", at_most=TARGET_WRITTEN_MS),
        figure(
            "received to safe from a power cut",
            paced["ours"]["synced_ms"],
            "ms, 99th percentile",
            at_most=TARGET_SYNCED_MS,
        ),
        figure(
            "the collector on this machine, beside the one that the targets were set on",
            _rate(collector),
            "frames/s",
            baseline="there",
            baseline_value=_COLLECTOR_THERE,
        ),
    ]


def _rate(measured: dict) -> float:
    return measured["frames"] / measured["process_seconds"]


def _share(measured: dict) -> float:
    return measured["process_seconds"] / measured["seconds"]


def measure(
    side: str, frames: list[bytes], *, sockets: int = 1, pace: int | None = None, every_s: float = 0.001
) -> dict:
    """Send to one side in a fresh process."""
    with TemporaryDirectory() as folder, Sender(frames, sockets, pace, every_s) as sender:
        command = [sys.executable, "-m", "data.benchmarks.receivers", side, sender.url, folder]
        command += [str(sockets), str(len(frames) * sockets), str(sender.bytes_each)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout)
    if sender.sent and "stamped" in measured and sockets == 1:
        measured["late_ms"] = late_ms(sender.sent, measured["stamped"])
    return measured


def late_ms(sent: Sequence[tuple[int, int]], stamped: Sequence[tuple[int, int]]) -> float | None:
    """How long after they were sent frames were stamped, 99th percentile; None where none was.

    Parameters
    ----------
    sent : how many frames were sent by then, and when, ns; rising.
    stamped : number of a frame, from 0 on, and its stamp, ns.
    """
    moments_ns = [sent[bisect_right(sent, number, key=itemgetter(0))][1] for number, _ in stamped]
    return percentile_99([(at - moment) / 1e6 for (_, at), moment in zip(stamped, moments_ns, strict=True)])
