"""A lake in object storage: real S3 requests to a server on this machine, and folders."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest

from data.lake import Lake
from data.manifest import CorruptFile
from data.object_store import LATEST, RemoteLake, Store, push

DAY = datetime(2026, 1, 5, tzinfo=UTC)


def trades(first: int, count: int, symbol: str = "BTCUSDT") -> pl.DataFrame:
    """Trades of that day, a second apart, with consecutive ids."""
    return pl.DataFrame({"agg_trade_id": range(first, first + count)}).select(
        venue=pl.lit("aster"),
        symbol=pl.lit(symbol),
        agg_trade_id="agg_trade_id",
        event_time=pl.lit(DAY) + pl.duration(seconds="agg_trade_id"),
        price=pl.lit(100.0),
        quantity=pl.lit(0.5),
        is_buyer_maker=pl.lit(False),
        source=pl.lit("ws"),
    )


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("trades", trades(1, 10), origin="test")
    return lake


@pytest.fixture(scope="module")
def s3_server():
    """An S3 server of this machine."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch) -> str:
    """The URL of an empty bucket."""
    from pyarrow import fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    place = fs.S3FileSystem(endpoint_override=s3_server, scheme="http", allow_bucket_creation=True)
    place.create_dir("lakes")
    place.delete_dir_contents("lakes")
    return f"s3://lakes/aster?endpoint_override={s3_server}&scheme=http&allow_bucket_creation=false"


@pytest.fixture
def folder(tmp_path) -> str:
    """The URL of a folder that does not exist yet."""
    return (tmp_path / "store").as_uri()


@pytest.fixture(params=["bucket", "folder"])
def url(request) -> str:
    return request.getfixturevalue(request.param)


def test_what_was_pushed_is_read_back(lake, url, tmp_path):
    pushed = push(lake, url)
    assert (pushed.copied, pushed.present, pushed.removed) == (1, 0, 0)
    remote = RemoteLake(url, tmp_path / "cache")
    assert remote.scan("trades").equals(lake.scan("trades"))
    assert remote.sql("select count(*) as trades, sum(quantity) as quantity from trades").row(0) == (10, 5.0)


def test_a_second_push_copies_only_what_is_new_and_a_reader_sees_one_state(lake, url, tmp_path):
    push(lake, url)
    before = RemoteLake(url, tmp_path / "cache")
    lake.append("trades", trades(11, 5), origin="test")
    pushed = push(lake, url)
    assert (pushed.copied, pushed.present) == (1, 1)
    assert push(lake, url).copied == 0
    after = RemoteLake(url, tmp_path / "other")
    assert (before.scan("trades").height, after.scan("trades").height) == (10, 15)


def test_files_are_fetched_when_they_are_needed_and_once(lake, folder, tmp_path):
    lake.append("trades", trades(86_400, 5), origin="the next day")
    push(lake, folder)
    remote = RemoteLake(folder, tmp_path / "cache")
    assert not list(remote.root.glob("trades/*/*"))
    assert remote.scan("trades", start=datetime(2026, 1, 6, tzinfo=UTC)).height == 5
    assert len(list(remote.root.glob("trades/*/*"))) == 1
    for entry in lake.files():
        (tmp_path / "store" / entry.path).unlink()
    again = RemoteLake(folder, tmp_path / "cache")
    assert again.scan("trades", start=datetime(2026, 1, 6, tzinfo=UTC)).height == 5
    with pytest.raises(CorruptFile, match="the object is missing; push the lake again"):
        again.scan("trades")


def test_a_damaged_object_never_passes_for_data(lake, folder, tmp_path):
    push(lake, folder)
    (entry,) = lake.files()
    place = tmp_path / "store" / entry.path
    content = bytearray(place.read_bytes())
    content[100] ^= 1
    place.write_bytes(content)
    remote = RemoteLake(folder, tmp_path / "cache")
    with pytest.raises(CorruptFile, match="expected sha256"):
        remote.scan("trades")
    assert not list(remote.root.glob("trades/*/*"))


def test_a_damaged_file_is_not_pushed_and_the_lake_there_stays_as_it_was(lake, folder, tmp_path):
    push(lake, folder)
    lake.append("trades", trades(11, 5), origin="test")
    (new,) = [entry for entry in lake.files() if entry.rows == 5]
    content = bytearray((lake.root / new.path).read_bytes())
    content[100] ^= 1
    (lake.root / new.path).write_bytes(content)
    with pytest.raises(CorruptFile, match="expected sha256"):
        push(lake, folder)
    assert RemoteLake(folder, tmp_path / "cache").scan("trades").height == 10


def test_whoever_reads_an_object_while_it_is_put_in_a_folder_sees_the_old_or_the_new_one(folder):
    store, states = Store(folder), (b"a" * 5_000, b"b" * 5_000)
    store.write(LATEST, states[0])
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [store.write(LATEST, states[number % 2]) for number in range(500)])
        seen = set()
        while not putting.done():
            seen.add(store.read(LATEST))
        putting.result()
    assert seen <= set(states)
    assert list(store.sizes()) == [LATEST]


def test_what_was_replaced_is_removed_one_push_later(lake, folder):
    store = Store(folder)
    store.write("trades/dt=2026-01-05/replaced.parquet", b"merged since")
    assert push(lake, folder).removed == 0
    assert json.loads(store.read(LATEST))["stale"] == ["trades/dt=2026-01-05/replaced.parquet"]
    assert push(lake, folder).removed == 1
    assert push(lake, folder).removed == 0
    assert sorted(store.sizes())[:2] == [LATEST, json.loads(store.read(LATEST))["manifest"]]


def test_a_remote_lake_is_only_read(lake, folder, tmp_path):
    push(lake, folder)
    with pytest.raises(ValueError, match="only read"):
        RemoteLake(folder, tmp_path / "cache").append("trades", trades(11, 1), origin="test")


def test_a_url_without_a_lake_a_place_or_with_a_key_is_refused(folder, tmp_path):
    with pytest.raises(LookupError, match=r"expected latest\.json there; run `aster push`"):
        RemoteLake(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match="expected a URL beginning with one of s3://"):
        Store("ftp://somewhere/lake")
    with pytest.raises(ValueError, match="must not hold keys") as refused:
        Store("s3://key:secret@bucket/lake")
    assert "secret" not in str(refused.value)
