"""The process that seals beside the recorder: replaced when it has done much, with nothing lost or done twice."""

import asyncio

import pytest

from data.lake import Lake
from data.recorder_sealer import Sealing
from data.tests.finished_segments import logged, quote
from data.wal import all_segments


@pytest.mark.parametrize("at_once", [1, 6])
def test_a_sealer_that_has_done_much_is_replaced_and_nobody_notices(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("data.recorder_sealer._SEGMENTS_PER_CHILD", 1)
    monkeypatch.setattr("data.recorder_sealer._TOLD_AHEAD", 2)
    logs = tmp_path / "wal"
    children, spawn = [], Sealing._spawn

    async def counted(sealing: Sealing) -> None:
        await spawn(sealing)
        children.append(sealing._process.pid)

    async def seal_six() -> Sealing:
        sealing = Sealing(logs, Lake(tmp_path / "lake", create=True).root)
        await sealing.start()
        names = [f"0/{logged(logs / '0', quote(number)).name}" for number in range(6)]
        for first in range(0, 6, at_once):
            sealing.give(names[first : first + at_once])
            if at_once == 1:  # else it is closed while most of them wait
                await sealing.drained()
        await sealing.finish()
        return sealing

    monkeypatch.setattr(Sealing, "_spawn", counted)
    sealing = asyncio.run(seal_six())
    assert len(set(children)) >= 6 / 2  # two are told at a time
    assert (sealing.trouble, sealing.landed, sealing.conflicts) == (None, {"book_ticker": 6}, 0)
    assert all_segments(logs) == []
    assert Lake(tmp_path / "lake").scan("book_ticker")["update_id"].to_list() == list(range(6))
