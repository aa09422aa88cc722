"""What a file has to look like to be audited, in words and names."""

ARGUMENT = "bars"  # the name under which a function or a notebook takes the bars
FUTURE = "future_"  # what looks ahead on purpose is called so: labels
LOOKBACK = "LOOKBACK_BARS"
STRATEGY = ("NAME", "Params", "Row", "GRID", "columns", "decide")

WHAT_IS_AUDITED = f"""\
A .py file offers its strategy ({", ".join(STRATEGY)}, as in
research/strategies), its registered features (FEATURES, names to research.features.Feature) and its public
functions of bars: those whose arguments without a default are `{ARGUMENT}` (the frame of research.bars; a Bars
where the code asks for `{ARGUMENT}.frame`) or named like its columns (`close`, `volume`: arrays). A function
returns a column or a frame with a row per bar or, as a backtest, a frame of trades: side, entry_time,
entry_price and, where known, entry_row_time, exit_time, exit_price.

A notebook offers every column with a row per bar that its cells leave behind, made from the variable
`{ARGUMENT}`, which the audit sets where a cell first assigns it.

What is called {FUTURE}... looks ahead on purpose and is left alone. {LOOKBACK} (a number, or one per
function) says how many rows of history are enough; with it the short buffer of live is tried too.
"""
