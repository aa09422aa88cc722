"""Champion and challengers by day, counted by hand."""

import json
from datetime import date

from click.testing import CliRunner

from live.journal_trades import trades
from live.shadows import Shadows, shadow_journal
from live.tests.conftest import a_config
from live.tests.paper_run import OFTEN, paper
from pipelines.cli import cli
from pipelines.shadow_table import daily_table


def test_every_config_has_a_row_a_day_and_says_how_far_it_was_ahead(tmp_path):
    champion, path = a_config(**OFTEN), tmp_path / "paper.sqlite"
    others = [a_config(**{**OFTEN, "stop_bps": 12.0}), a_config(**{**OFTEN, "momentum_multiple": 1e6})]
    with Shadows(others, path) as shadows:
        paper([champion], path, hours=0.4, shadows=shadows)
    table = daily_table(path)
    assert table["day"].to_list() == [date(2026, 1, 5)] * 3
    assert table["net_pnl_usdt"].is_sorted(descending=True)
    nets = {}
    for config, journal in ((champion, path), *((other, shadow_journal(path, other)) for other in others)):
        listed = trades(journal, config.config_hash, config.symbol)
        (row,) = table.filter(config_hash=config.config_hash).to_dicts()
        assert row["trades"] == listed.height and row["net_pnl_usdt"] == listed["net_pnl_usdt"].sum()
        assert row["role"] == ("champion" if config is champion else "shadow")
        nets[config.config_hash] = row["net_pnl_usdt"], row["ahead_usdt"]
    base, none = nets.pop(champion.config_hash)
    assert none is None and all(ahead == net - base for net, ahead in nets.values())
    assert nets[others[1].config_hash][0] == 0.0  # it never traded, and is listed
    printed = CliRunner().invoke(cli, ["shadows", str(path), "--json"])
    assert len(json.loads(printed.output)["days"]) == 3
