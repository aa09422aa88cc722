"""Shadows hear what the champion hears, are in nobody's way, and each is what a replay of the log makes of it."""

from datetime import timedelta

import pytest

from data import wal
from data.wal import Kind, Record
from live.journal import feed_folder, read_journal
from live.journal_trades import trades
from live.shadows import Shadows, require_same_feed, shadow_journal, walk_shadows
from live.tests.paper_run import OFTEN, START, assert_proven, paper


@pytest.fixture
def often(config):
    """A config that trades a few times an hour on the synthetic market: ``often(stop_bps=10)``."""
    return lambda **changes: config(**{**OFTEN, **changes})


def test_shadows_are_their_own_replays_and_the_champion_does_not_notice_them(often, tmp_path):
    champion, path = often(), tmp_path / "paper.sqlite"
    configs = [often(stop_bps=stop, volatility_window_bars=window) for stop, window in ((12.0, 5), (30.0, 15))]
    with Shadows(configs, path) as shadows:
        _, head = paper([champion], path, hours=0.8, shadows=shadows)
        heads = [shadow.journal.head for shadow in shadows.listed]
    assert_proven([champion], path, head)
    again = tmp_path / "again" / "paper.sqlite"
    with Shadows(configs, again) as replayed:
        walk_shadows(replayed, feed_folder(path))
        assert [shadow.journal.head for shadow in replayed.listed] == heads
    listed = [trades(shadow_journal(path, one), one.config_hash, one.symbol) for one in configs]
    assert all(not each.is_empty() for each in listed)
    for one in configs:
        bytes_of = [read_journal(shadow_journal(each, one)).write_ipc(None).getvalue() for each in (path, again)]
        assert bytes_of[0] == bytes_of[1]


def test_a_shadow_with_the_champions_ears_does_what_it_would_do_as_champion(often, tmp_path):
    champion, other, path = often(), often(stop_bps=12.0), tmp_path / "paper.sqlite"
    paper([champion, other], path, hours=0.5)
    with Shadows([other], path) as shadows:
        walk_shadows(shadows, feed_folder(path))
    as_shadow = trades(shadow_journal(path, other), other.config_hash, other.symbol)
    assert as_shadow.equals(trades(path, other.config_hash, other.symbol)) and as_shadow.height > 1


def test_a_session_that_goes_on_takes_its_shadows_with_it(often, tmp_path):
    champion, shadow, path = often(), often(stop_bps=12.0), tmp_path / "paper.sqlite"
    for start in (START, START + timedelta(minutes=20)):
        with Shadows([shadow], path) as shadows:
            paper([champion], path, hours=0.3, shadows=shadows, start=start)
            head = shadows.listed[0].journal.head
    again = tmp_path / "again.sqlite"
    with Shadows([shadow], again) as replayed:
        walk_shadows(replayed, feed_folder(path))
        assert replayed.listed[0].journal.head == head


def test_what_is_the_champions_own_is_not_heard(often, tmp_path):
    path = tmp_path / "paper.sqlite"
    paper([often()], path, hours=0.3)
    records = [record for segment in wal.segments(feed_folder(path)) for record in wal.read(segment)]
    own = Record(records[-1].recv_ns - 1, Kind.NOTE, 0, wal.note("command", command="pause"))
    heads = set()
    for heard in (records, [*records[:-1], own, records[-1]]):
        with Shadows([often(stop_bps=12.0)], tmp_path / f"{len(heard)}.sqlite") as shadows:
            for record in heard:
                shadows.hear(record)
            shadows.finish()
            heads.add(shadows.listed[0].journal.head)
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("changes", "words"), [({"symbol": "ETHUSDT"}, "no --config trades ETHUSDT 1m"), ({}, "given twice")]
)
def test_a_shadow_of_another_feed_or_a_champion_again_is_refused(often, changes, words):
    with pytest.raises(ValueError, match=words):
        require_same_feed([often()], [often(**changes)])
