"""TOML → frozen dataclasses. Unknown, missing and mistyped keys are refused by name; money has no silent default.

Also the one canonical text of a value, so that a configuration can be hashed, signed and compared.
"""

import dataclasses
import difflib
import enum
import hashlib
import json
import math
import numbers
import tomllib
import types
import typing
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path, PurePath
from typing import Any, TypeVar

T = TypeVar("T")


def load(cls: type[T], source: Mapping[str, Any] | Path | str, where: str | None = None) -> T:
    """A ``cls`` from TOML.

    Parameters
    ----------
    cls : a dataclass. Its fields may be text, numbers, booleans, dates, times, paths, ``Literal``, enums, dataclasses,
        tuples or lists of those, dicts with text keys, and unions such as ``float | None``. A field without a default
        must be in the file. A float takes a whole number; a time without a zone is UTC.
    source : path of a TOML file, or the mapping read from one.
    where : what error messages call the source; the file's name when None.

    Raises
    ------
    ValueError
        Naming the source, the section and the key: ``sweep.toml [costs]: unknown key 'taker_fee_bp'; did you mean
        taker_fee_bps?``
    FileNotFoundError
        When the path does not exist.
    """
    if isinstance(source, Mapping):
        return _dataclass(cls, source, where or cls.__name__, ())
    path = Path(source)
    where = where or path.name
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text: {error}") from error
    return _dataclass(cls, content, where, ())


def canonical_json(value: object) -> bytes:
    """The one JSON text of a value: keys sorted, no spaces, floats as ``repr``, times in UTC.

    Dataclasses and named tuples become objects, tuples become arrays, enums their values, paths their text.

    Raises
    ------
    ValueError
        On NaN or infinity: they have no JSON.
    TypeError
        On a value without a canonical form, naming its type.
    """
    plain = _plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def config_hash(value: object) -> str:
    """sha256 of the canonical JSON, hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def parse_utc(text: str) -> datetime:
    """An ISO date or time as a UTC time; one without a zone is UTC.

    Raises
    ------
    ValueError
        When the text is no ISO time.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected an ISO date or time such as 2026-01-31 or 2026-01-31T12:00, got {text!r}") from None
    return _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _dataclass(cls: type[T], given: object, where: str, path: tuple[str, ...]) -> T:
    place = f"{where} [{'.'.join(path)}]" if path else where
    if not isinstance(given, Mapping):
        raise ValueError(f"{place}: expected a table of keys, got {_described(given)}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(fields)}"
            raise ValueError(f"{place}: unknown key {name!r}; {hint}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise ValueError(f"{place}: missing key {name!r}; it has no default")
    hints = typing.get_type_hints(cls)
    values = {name: _value(hints[name], item, where, (*path, name)) for name, item in given.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _value(hint: Any, given: object, where: str, path: tuple[str, ...]) -> Any:
    """``given`` as the type that the field asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return given
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, given, where, path)
    if origin is typing.Literal:
        if any(given == choice and type(given) is type(choice) for choice in arguments):
            return given
        raise _wrong(f"one of {', '.join(map(repr, arguments))}", given, where, path)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, given, where, path)
    if hint in (tuple, list) or origin in (tuple, list):
        return _sequence(origin or hint, arguments, given, where, path)
    if hint is dict or origin is dict:
        if not isinstance(given, Mapping):
            raise _wrong("a table of keys", given, where, path)
        item_hint = arguments[1] if arguments else Any
        return {name: _value(item_hint, item, where, (*path, name)) for name, item in given.items()}
    return _scalar(hint, given, where, path)


def _one_of(hints: tuple[Any, ...], given: object, where: str, path: tuple[str, ...]) -> Any:
    """The first member of a union that takes the value."""
    reasons = []
    for hint in (hint for hint in hints if hint is not type(None)):
        try:
            return _value(hint, given, where, path)
        except ValueError as error:
            reasons.append(error)
    if given is None and type(None) in hints:
        return None
    raise reasons[0]


def _sequence(kind: type, hints: tuple[Any, ...], given: object, where: str, path: tuple[str, ...]) -> Any:
    if not isinstance(given, list | tuple):
        raise _wrong("an array", given, where, path)
    if kind is tuple and hints and hints[-1] is not Ellipsis:
        if len(given) != len(hints):
            raise _wrong(f"an array of {len(hints)}", given, where, path)
        each = hints
    else:
        each = (hints[0] if hints else Any,) * len(given)
    return kind(
        _value(hint, item, where, (*path, str(at))) for at, (hint, item) in enumerate(zip(each, given, strict=True))
    )


def _scalar(hint: Any, given: object, where: str, path: tuple[str, ...]) -> Any:
    if hint is float:
        if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given):
            return float(given)
        raise _wrong("a finite number", given, where, path)
    if hint is int:
        if isinstance(given, int) and not isinstance(given, bool):
            return given
        raise _wrong("a whole number", given, where, path)
    if hint is datetime:
        if isinstance(given, datetime):
            return _in_utc(given)
        if isinstance(given, date):
            return datetime.combine(given, time(), UTC)
    if hint is date and isinstance(given, date) and not isinstance(given, datetime):
        return given
    if hint in (datetime, date) and isinstance(given, str):
        try:
            return parse_utc(given) if hint is datetime else date.fromisoformat(given)
        except ValueError:
            raise _wrong("an ISO date or time" if hint is datetime else "an ISO date", given, where, path) from None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if isinstance(given, hint):
            return given
        choices = [member.value for member in hint]
        if given in choices:
            return hint(given)
        raise _wrong(f"one of {', '.join(map(repr, choices))}", given, where, path)
    if isinstance(hint, type) and issubclass(hint, PurePath) and isinstance(given, str | PurePath):
        return hint(given)
    if hint in (str, bool) and isinstance(given, hint):
        return given
    raise _wrong(_NAMES.get(hint, str(hint)), given, where, path)


_NAMES = {str: "text", bool: "true or false", datetime: "a time", date: "a date", Path: "a path"}


def _wrong(expected: str, given: object, where: str, path: tuple[str, ...]) -> ValueError:
    section = f" [{'.'.join(path[:-1])}]" if len(path) > 1 else ""
    return ValueError(f"{where}{section}: {path[-1]}: expected {expected}, got {_described(given)}")


def _described(given: object) -> str:
    kinds = {
        bool: "",
        int: "the number ",
        float: "the number ",
        str: "the text ",
        list: "the array ",
        dict: "the table ",
    }
    shown = str(given).lower() if isinstance(given, bool) else repr(given)
    return kinds.get(type(given), f"the {type(given).__name__} ") + (shown if len(shown) <= 60 else shown[:59] + "…")


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, Mapping):
        unnamed = [name for name in value if not isinstance(name, str)]
        if unnamed:
            raise TypeError(f"canonical JSON: expected text as keys, got {unnamed[0]!r}")
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError(f"canonical JSON: expected a time with its zone, got {value.isoformat()}")
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"canonical JSON: expected finite numbers, got {value!r}")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):  # numpy's integers too
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"canonical JSON: no form for {type(value).__name__} {value!r}")
