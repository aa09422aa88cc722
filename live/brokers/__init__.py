"""Where orders go: paper, later the exchange."""
