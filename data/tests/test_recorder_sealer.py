"""The process that seals beside the recorder: replaced when it has done much, with nothing lost or done twice."""

import asyncio

from data.lake import Lake
from data.recorder_sealer import Sealing
from data.tests.test_sealer import logged, quote
from data.wal import all_segments


def test_a_sealer_that_has_done_much_is_replaced_and_nobody_notices(tmp_path, monkeypatch):
    monkeypatch.setattr("data.recorder_sealer._SEGMENTS_PER_CHILD", 1)
    logs = tmp_path / "wal"
    children, spawn = [], Sealing._spawn

    async def counted(sealing: Sealing) -> None:
        await spawn(sealing)
        children.append(sealing._process.pid)

    async def seal_one_after_another() -> Sealing:
        sealing = Sealing(logs, Lake(tmp_path / "lake", create=True).root)
        await sealing.start()
        for number in range(3):
            segment = logged(logs / "0", quote(number))
            sealing.give([f"0/{segment.name}"])
            await sealing.drained()
        await sealing.finish()
        return sealing

    monkeypatch.setattr(Sealing, "_spawn", counted)
    sealing = asyncio.run(seal_one_after_another())
    assert len(set(children)) >= 3
    assert (sealing.trouble, sealing.landed, sealing.conflicts) == (None, {"book_ticker": 3}, 0)
    assert all_segments(logs) == []
    assert Lake(tmp_path / "lake").scan("book_ticker")["update_id"].to_list() == [0, 1, 2]
