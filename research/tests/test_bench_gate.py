"""The proof of the gate on a handful of worlds; ``aster bench gate`` takes hundreds."""

import os

import pytest

from research.benchmarks.bench_gate import judged_world, wilson

WORLDS = int(os.environ.get("ASTER_GATE_WORLDS", "3"))


def test_worlds_without_an_edge_are_stopped():
    assert sum(judged_world(seed, 0.0, 1.0).passes for seed in range(WORLDS)) <= 0.05 * WORLDS


def test_a_world_with_a_large_edge_passes():
    assert judged_world(0, 1.5, 1.0).passes


def test_a_share_of_one_half_of_a_hundred_is_known_to_a_tenth():
    assert wilson(0.5, 100) == pytest.approx((0.404, 0.596), abs=0.001)
