"""An exchange of our own on this machine: speaks Aster's REST and WebSocket, plays a market, tells the time.

``tape.py`` says what is played, ``chunk.py`` puts it in order, ``wire.py`` in words. ``streams.py`` knows the stream
names, ``market.py`` and ``rest.py`` answer requests, ``server.py`` keeps the time and sends. Nothing here trades.
"""
