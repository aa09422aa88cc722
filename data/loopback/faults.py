"""What the loopback exchange does wrong when told to: settings, each of them off unless asked for.

Times are market seconds after the settings came into force: after the exchange's start, or after the request that sent
them. Whatever is left to chance depends on the seed and on the message alone, never on speed or on who listens.

Source: Aster futures API, "Loopback simulator: required behaviour".
"""

from dataclasses import dataclass
from typing import Literal

MESSAGE_KINDS = (  # in the order in which they befall a message
    "drop", "malformed", "new_field", "missing_field", "broken_chain", "duplicate", "unknown_event", "late",
)  # fmt: skip
MOMENT_KINDS = ("silence", "half_open", "cut")
_DEFAULT_CODES = {403: -1001, 418: -1003, 429: -1003}
_INTERNAL_ERROR = -1001


@dataclass(frozen=True, kw_only=True)
class StreamFault:
    """Something wrong with messages, streams or connections.

    Parameters
    ----------
    kind : of single messages: ``drop``; ``duplicate``; ``late`` (by ``by_s``, so that others overtake it; with a rate
        of 1 a slow line); ``malformed`` (the second half is missing); ``new_field``; ``missing_field`` (without ``E``);
        ``unknown_event`` (a stranger follows it); ``broken_chain`` (a book whose ``pu`` is no ``u`` seen before).
        Of a moment: ``silence`` (streams die on the connections of that moment until they are subscribed anew, or for
        ``for_s``); ``half_open`` (connections of that moment stay open and carry nothing ever after, not even the
        time); ``cut`` (they end as a broken line does).
        Of openings: ``refuse`` (handshakes answered with ``status``).
    streams : which, by name, with ``*`` for anything.
    socket : of a pair of connections to the same streams; None for both.
    rate : share of the messages, connections or openings that it befalls.
    together : the same messages on every socket; otherwise each socket has its own luck.
    from_s, for_s : when it begins, and how long it lasts; None for ever. Cuts and half-open connections have no length.
    every_s : a moment that comes again so often; None for once.
    by_s : of ``late``.
    status, retry_after_s : of ``refuse``.
    """

    kind: Literal[
        "drop", "duplicate", "late", "malformed", "new_field", "missing_field", "unknown_event", "broken_chain",
        "silence", "half_open", "cut", "refuse",
    ]  # fmt: skip
    streams: str = "*"
    socket: int | None = None
    rate: float = 1.0
    together: bool = False
    from_s: float = 0.0
    for_s: float | None = None
    every_s: float | None = None
    by_s: float = 0.2
    status: int = 503
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        _check_rate_and_times(self.rate, self.from_s, self.for_s)
        if self.every_s is not None and not self.every_s > 0:
            raise ValueError(f"every_s: expected a positive number of seconds, got {self.every_s}")
        if self.every_s is not None and self.kind not in MOMENT_KINDS:
            raise ValueError(f"every_s: only of {', '.join(MOMENT_KINDS)}, got kind {self.kind!r}")
        if not self.by_s > 0:
            raise ValueError(f"by_s: expected a positive number of seconds, got {self.by_s}")


@dataclass(frozen=True, kw_only=True)
class RequestFault:
    """Something wrong with the answers of REST.

    Parameters
    ----------
    kind : ``status`` (an error object with that HTTP status); ``html`` (a page instead of JSON); ``error_object`` (with
        HTTP 200); ``empty_list`` (with HTTP 200); ``half_body`` (the second half is missing); ``cut_before`` and
        ``cut_after`` (the connection ends before or after the work is done); ``slow`` and ``slow_after`` (right, but
        only after ``delay_s`` of the machine's time, as a client may hold the market's: the work is done after or
        before the wait). Of signed requests too: ``status_after`` (the error comes although
        the work is done) and ``status_later`` (and the work is done ``delay_s`` later by the market's time).
    path : the endpoint's name such as ``klines`` or ``order``, with ``*`` for anything.
    method : the requests meant, ``*`` for all.
    rate : share of the requests that it befalls.
    from_s, for_s : when it begins, and how long it lasts; None for ever.
    count : how many requests it befalls at most; None for any number.
    status : of ``status`` and its kin, and of ``html``.
    code : of the error object; None for the usual one of that status.
    retry_after_s : the header ``Retry-After``; None for none.
    delay_s : of ``slow``, ``slow_after`` and ``status_later``.
    """

    kind: Literal[
        "status", "html", "error_object", "empty_list", "half_body", "cut_before", "cut_after", "slow", "slow_after",
        "status_after", "status_later",
    ]  # fmt: skip
    path: str = "*"
    method: Literal["*", "GET", "POST", "PUT", "DELETE"] = "*"
    rate: float = 1.0
    from_s: float = 0.0
    for_s: float | None = None
    count: int | None = None
    status: int = 503
    code: int | None = None
    retry_after_s: float | None = None
    delay_s: float = 1.0

    def __post_init__(self) -> None:
        _check_rate_and_times(self.rate, self.from_s, self.for_s)
        if not 400 <= self.status <= 599:
            raise ValueError(f"status: expected an HTTP status of an error, 400 to 599, got {self.status}")

    @property
    def error_code(self) -> int:
        """The code that its error object carries."""
        return _DEFAULT_CODES.get(self.status, _INTERNAL_ERROR) if self.code is None else self.code


@dataclass(frozen=True, kw_only=True)
class ContractChange:
    """A contract's rules change at a time; what is None stays.

    Parameters
    ----------
    status : TRADING, or anything else: then its streams and bars end.
    is_new : the contract begins to exist then.
    """

    symbol: str
    from_s: float
    status: str | None = None
    tick_size: float | None = None
    step_size: float | None = None
    min_notional_usdt: float | None = None
    funding_interval_hours: float | None = None
    is_new: bool = False


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Something the exchange tells everybody, amid market messages and without a stream's name."""

    from_s: float
    title: str
    category: str = "announcement"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Everything that can be wrong.

    Parameters
    ----------
    late_bars_s : how long after its end a bar's last message comes, at random in [least, most]; real ones take 0.3 to
        3 seconds. None for what the source says.
    silent_minutes : minutes without a trade bring no message about their bar, not even its end.
    clock_offset_ms : how far the exchange's own clock (GET time) is ahead of the market's time.
    ban_after : so many requests refused within a minute by 429 and the next ones are banned for ``ban_s`` (418).
    """

    seed: int = 0
    streams: tuple[StreamFault, ...] = ()
    requests: tuple[RequestFault, ...] = ()
    late_bars_s: tuple[float, float] | None = None
    silent_minutes: bool = False
    contracts: tuple[ContractChange, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    clock_offset_ms: int = 0
    ban_after: int = 10
    ban_s: float = 120.0

    def __post_init__(self) -> None:
        if self.late_bars_s is not None and not 0 <= self.late_bars_s[0] <= self.late_bars_s[1]:
            raise ValueError(f"late_bars_s: expected least and most seconds, got {list(self.late_bars_s)}")


def _check_rate_and_times(rate: float, from_s: float, for_s: float | None) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected a share, above 0 and at most 1, got {rate}")
    if from_s < 0 or (for_s is not None and not for_s > 0):
        raise ValueError(f"from_s and for_s: expected zero or more and a positive length, got {from_s} and {for_s}")
