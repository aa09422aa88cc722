"""What a night found, told to people: every sentence once, however often the night is run."""

import json
from collections.abc import Sequence

from live.alerts import Alerts
from pipelines.nightly import Night, human_of
from pipelines.runs import write_whole

TOLD = "alerts.json"


def alert(night: Night, addresses: Sequence[str]) -> None:
    """Send what a person has to do and was not told yet; what nobody got, the next run of the night sends.

    Parameters
    ----------
    addresses : of ``live.alerts.destinations``; none: nobody is told, and the pages say it all.
    """
    told = night.folder / TOLD
    before = json.loads(told.read_text()) if told.exists() else []
    said = [f"{night.day} {step}: {what}" for step, what in human_of(night)]
    if not addresses or not (fresh := [sentence for sentence in said if sentence not in before]):
        return
    with Alerts(addresses, "nightly") as alerts:
        sent = [sentence for sentence in fresh if alerts.send("nightly", sentence)]
    write_whole(told, (json.dumps([*before, *sent], indent=2) + "\n").encode())
