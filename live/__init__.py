"""The thin runner: feed, decide, orders, journal."""
