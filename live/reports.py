"""Reports of ``live.orders`` as JSON values and back: the input log holds what a real broker said. Pure."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from live.orders import AmbiguousBar, EntryFilled, EntryMissed, ExitFilled, FundingPaid, Leg, Report, RowKey

_KINDS = {kind.__name__: kind for kind in (EntryFilled, EntryMissed, ExitFilled, FundingPaid, AmbiguousBar)}


def told(report: Report) -> dict[str, Any]:
    """JSON values."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    if values.get("row") is not None:
        values["row"] = list(values["row"])
    return {"report": type(report).__name__, **values}


def report_of(values: Mapping[str, Any]) -> Report:
    """The report that ``told`` wrote."""
    kind = _KINDS[values["report"]]
    rest = {name: value for name, value in values.items() if name != "report"}
    if rest.get("row") is not None:
        rest["row"] = RowKey(*rest["row"])
    if "leg" in rest:
        rest["leg"] = Leg(rest["leg"])
    return kind(**rest)
