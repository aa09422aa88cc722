"""Where the blocks of a sweep are evaluated: in this process on all its cores, or on a Ray cluster.

A block's rows depend on the block alone, so both give the same bytes, whatever order the blocks are finished in.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from types import ModuleType
from typing import Any

import numba
import polars as pl

from pipelines.runs import RunFolder
from research.bars import Bars
from research.sweep import Block, Evaluator, SweepConfig

Evaluated = Iterator[tuple[Block, pl.DataFrame]]
Executor = Callable[[SweepConfig, Mapping[str, Evaluator], Mapping[str, Bars], Sequence[Block]], Evaluated]

LOCAL, RAY = "local", "ray"
EXECUTORS = (LOCAL, RAY)
_IN_FLIGHT_PER_CORE = 4  # enough that no core waits for this process; few enough that a stopped sweep wastes little
_STARTS = 3
_RETRIES = 5  # of a block whose worker died
_ANSWERS_WITHIN_S = 5.0
# What begins every HTTP/2 connection, which gRPC rests on: the preface and an empty frame of settings. The server's
# own settings are its first frame.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEADER, _SETTINGS = 9, 4  # bytes; type of a frame, its fourth byte
_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told what runs here
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it every worker warns
}
_RAY_OF_OUR_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever the system: it listens on 127.0.0.1 and nowhere else
    "RAY_AUTH_MODE": "disabled",  # and so needs no token
    "RAY_agent_register_timeout_ms": "120000",  # a busy machine takes a while to start it
    "RAY_raylet_start_wait_time_s": "120",
}


@contextmanager
def executor(name: str, ray_address: str | None = None) -> Iterator[Executor]:
    """What evaluates blocks: ``local``, or ``ray`` at an address.

    Parameters
    ----------
    ray_address : of a running cluster, such as ``auto`` or ``10.0.0.1:6379``; None or ``local`` starts Ray on this
        machine alone and stops it at the end.

    Raises
    ------
    ValueError
        On another name, an address for ``local``, or what is no address.
    ConnectionError
        When no Ray cluster answers there.
    """
    if name not in EXECUTORS:
        raise ValueError(f"no executor {name!r}; there are {', '.join(EXECUTORS)}")
    if name == LOCAL:
        if ray_address is not None:
            raise ValueError(f"a Ray address goes with --executor ray, not with {LOCAL}")
        yield _evaluate_here
        return
    if ray_address == "local":  # Ray's own word for a start here
        ray_address = None
    if ray_address not in (None, "auto"):
        _host_and_port(ray_address)
    for variable, value in (_RAY | (_RAY_OF_OUR_OWN if ray_address is None else {})).items():
        os.environ.setdefault(variable, value)  # Ray reads them when it is imported
    import ray

    with redirect_stdout(sys.stderr):  # where Ray tells of dead workers; standard output is the command's own
        _join(ray, ray_address)
        try:
            yield partial(_evaluate_on_ray, {})
        finally:
            ray.shutdown()


def _join(ray: ModuleType, address: str | None) -> None:
    """Connect to the cluster at an address, or start one here.

    Retried: a start that did not end in the fifteen seconds which Ray grants itself, as on a busy machine. Fatal: all
    else.
    """
    for attempt in range(_STARTS):
        try:
            if address is not None:
                _require_answer(address)
            ray.init(address=address or "local", include_dashboard=False, log_to_driver=False)
            return
        except ConnectionError as error:
            raise ConnectionError(
                f"no Ray cluster at {address}: {error}; start one with `ray start --head`, or leave --ray-address out"
            ) from error
        except Exception as error:  # Ray raises this type itself, and no narrower one
            if "timed out during startup" not in str(error) or attempt == _STARTS - 1:
                raise
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Somebody speaks gRPC at the address: where nobody does, Ray waits for minutes without a word.

    Raises
    ------
    ConnectionError
        Saying what is there instead.
    """
    from ray._private.services import canonicalize_bootstrap_address  # where ``ray.init`` itself goes for an address

    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address  # as Ray does
    if "://" not in address:
        try:
            address = canonicalize_bootstrap_address(address)
        except ConnectionError:
            raise ConnectionError("none runs on this machine, and RAY_ADDRESS names none") from None
        if address is None:  # it is to be started here
            return
    host, port = _host_and_port(address)
    place = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), _ANSWERS_WITHIN_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return  # it speaks to those alone who bring a certificate
            connection.sendall(_HELLO)
            with connection.makefile("rb") as told:
                first = told.read(_FRAME_HEADER)
    except OSError as error:
        why = f"no word within {_ANSWERS_WITHIN_S:g} s" if isinstance(error, TimeoutError) else error.strerror
        raise ConnectionError(f"nothing answers at {place}: {why}") from error
    if len(first) < _FRAME_HEADER or first[3] != _SETTINGS:
        raise ConnectionError(f"what answers at {place} is no Ray cluster: `ray start --head` says its port")


def _host_and_port(address: str) -> tuple[str, int]:
    """Of HOST:PORT, with or without ``ray://``."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"Ray address: expected HOST:PORT, ray://HOST:PORT or auto, got {address!r}")
    return host.strip("[]"), int(port)


class KeptBlocks:
    """Blocks of a run, each evaluated once: those that its folder holds are read.

    Attributes
    ----------
    config_bars : what was evaluated now.
    """

    def __init__(self, run: RunFolder, evaluate: Callable[[Sequence[Block]], Evaluated]) -> None:
        self._run, self._evaluate = run, evaluate
        self.config_bars = 0

    def frames(
        self,
        blocks: Sequence[Block],
        columns: Mapping[str, pl.DataType | None] | None = None,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[pl.DataFrame]:
        """Statistics of the blocks, in their order; all columns, or these, as the dtype named where one is.

        ``tell`` is told (done, total).
        """
        left = [block for block in blocks if not (self._run.path / f"blocks/{block.name}.parquet").exists()]
        held = len(blocks) - len(left)
        tell(held, len(blocks))
        for done, (block, rows) in enumerate(self._evaluate(left), held + 1):
            self._run.write_frame(f"blocks/{block.name}", rows)
            self.config_bars += rows.height * block.rows
            tell(done, len(blocks))
        dtypes = {name: dtype for name, dtype in (columns or {}).items() if dtype is not None}
        names = None if columns is None else list(columns)
        return [self._run.frame(f"blocks/{block.name}", names).cast(dtypes) for block in blocks]


def _evaluate_here(config, evaluators, bars, blocks) -> Evaluated:
    """One block after the other: the kernel itself uses every core."""
    for block in blocks:
        yield block, evaluators[block.symbol](block)


def _evaluate_on_ray(asked, config, evaluators, bars, blocks) -> Evaluated:
    """Blocks as they are finished. Bars go into the object store once; a block whose worker dies is done again.

    ``asked`` keeps what is in the store, by symbol: an executor serves one sweep.
    """
    import ray

    evaluate = ray.remote(num_cpus=1, max_retries=_RETRIES)(_evaluate_in_worker)
    for symbol in bars.keys() - asked.keys():
        asked[symbol] = ray.put((config, bars[symbol]))
    most = _IN_FLIGHT_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
    left, running = list(reversed(blocks)), {}
    while left or running:
        while left and len(running) < most:
            block = left.pop()
            # in a list, so that a worker opens it only for its first block of the symbol
            running[evaluate.remote([asked[block.symbol]], block)] = block
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(done), ray.get(done)


_worker_evaluators: dict[str, Evaluator] = {}  # of a Ray worker: features are computed once per symbol


def _evaluate_in_worker(asked: Sequence[Any], block: Block) -> pl.DataFrame:
    """One block on one core of a Ray worker."""
    import ray

    key = asked[0].hex()
    if key not in _worker_evaluators:
        numba.set_num_threads(1)  # Ray runs a worker per core
        config, bars = ray.get(asked[0])
        _worker_evaluators[key] = Evaluator(config, bars)
    return _worker_evaluators[key](block)
