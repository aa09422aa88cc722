"""What a command does with an error: one sentence for what its user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def errors_told(*more: type[Exception]) -> Iterator[None]:
    """End the command with the sentence of an error that its user can mend.

    Parameters
    ----------
    more : errors of this kind besides the usual.
    """
    try:
        yield
    except (KeyError, IndexError):
        raise  # our own bugs keep their traceback
    except (ValueError, LookupError, OSError, *more) as error:
        raise click.ClickException(str(error)) from error
