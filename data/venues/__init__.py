"""One module per venue: its addresses and its public REST interface."""
