"""An exchange of our own on this machine: speaks Aster's REST and WebSocket, plays a market, tells the time.

``tape.py`` says what is played, ``quirks.py`` how the exchange would tell it, ``chunk.py`` puts it in order,
``wire.py`` in words. ``player.py`` keeps the time and sends, ``audience.py`` and ``connection.py`` know the clients,
``streams.py`` the stream names. ``market.py``, ``endpoints.py`` and ``others.py`` answer requests, ``rest.py`` serves
them. ``faults.py`` says what may go wrong, ``trouble.py`` and ``request_trouble.py`` do it, ``truth.py`` tells what
was done; ``controls.py`` takes orders from outside, ``server.py`` is the whole.

Accounts: ``account.py`` takes orders and meets the market, pure and without a clock. Its parts: ``account_orders.py``,
``account_checks.py``, ``account_rules.py``, ``account_book.py``, ``account_triggers.py``, ``account_ledger.py``,
``account_positions.py``, ``account_margin.py``, ``account_liquidation.py``, ``account_modes.py``; what it tells:
``account_events.py``. ``account_office.py`` brings accounts, time and clients together, ``account_feed.py`` the tape.
``account_doors.py`` checks who comes in, with ``signatures.py`` and ``account_keys.py``; ``account_rest.py``,
``account_asked.py``, ``account_endpoints.py``, ``account_trading.py``, ``account_request.py`` and
``account_answers.py`` speak to them. ``account_settings.py`` says how accounts are treated where nobody knows how the
real exchange does it.
"""
