"""The runner's figures for Prometheus, as the dashboard sees them.

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4.
"""

from live.dashboard.answers import Overview
from live.risk import Level

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(seen: Overview, clients: int) -> str:
    """Every figure of an overview; what is unknown is left out."""
    runner, account, money = seen.runner, seen.account, seen.performance.since_start
    stops_missing = sum(position.stop_state == "missing" for position in seen.positions)
    figures = (
        ("up", "gauge", "1 while a living process writes the journal.", float(runner.up_s is not None)),
        ("uptime_seconds", "gauge", "How long it lives.", runner.up_s),
        ("heard_age_seconds", "gauge", "Since the runner heard anything.", runner.heard_age_s),
        ("entries_allowed", "gauge", "1 while the level is ACTIVE.", float(runner.level == Level.ACTIVE)),
        ("journal_events_total", "counter", "Events in the journal.", runner.head),
        ("positions", "gauge", "Open positions.", len(seen.positions)),
        ("positions_without_stop", "gauge", "Open positions whose stop order is missing.", stops_missing),
        ("orders_unknown", "gauge", "Orders whose state is unknown.", seen.unknown_orders),
        ("exposure_usdt", "gauge", "Notional of open positions.", account.exposure_usdt),
        ("balance_usdt", "gauge", "Wallet and unrealised, as the exchange told.", account.balance_usdt),
        ("unrealised_usdt", "gauge", "At the last mark, after fees and funding so far.", account.unrealised_usdt),
        ("trades_total", "counter", "Closed trades.", money.trades),
        ("net_usdt", "gauge", "Of closed trades, after fees and funding.", money.net_usdt),
        ("fees_usdt_total", "counter", "Paid in closed trades.", money.fees_usdt),
        ("funding_paid_usdt", "gauge", "Paid in closed trades; negative when received.", money.funding_usdt),
        ("drawdown_today_usdt", "gauge", "Net since 00:00 UTC below its highest.", account.drawdown_today_usdt),
        ("dashboard_clients", "gauge", "Pages that listen to the stream.", clients),
    )
    lines = []
    for name, kind, meaning, value in figures:
        if value is not None:
            lines += [f"# HELP aster_runner_{name} {meaning}", f"# TYPE aster_runner_{name} {kind}"]
            lines.append(f"aster_runner_{name} {value:.15g}")
    return "\n".join(lines) + "\n"
