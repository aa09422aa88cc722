"""An exchange of our own on this machine: speaks Aster's REST and WebSocket, plays a market, tells the time.

``tape.py`` says what is played, ``quirks.py`` how the exchange would tell it, ``chunk.py`` puts it in order,
``wire.py`` in words. ``player.py`` keeps the time and sends, ``audience.py`` and ``connection.py`` know the clients,
``streams.py`` the stream names. ``market.py``, ``endpoints.py`` and ``others.py`` answer requests, ``rest.py`` serves
them. ``faults.py`` says what may go wrong, ``trouble.py`` and ``request_trouble.py`` do it, ``truth.py`` tells what
was done; ``controls.py`` takes orders from outside, ``server.py`` is the whole. Nothing here trades.
"""
