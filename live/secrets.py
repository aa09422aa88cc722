"""The keys that orders are signed with: from the environment, or from a file that only its owner reads.

They are never written anywhere: not into a log, a journal, an error or a listing of variables.
"""

import os
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from data.venues.signing import AgentKey, ApiKey, OperatorKey
from live.private_file import require_private

SigningKey = AgentKey | ApiKey
_PREFIX = "ASTER_"


class Secrets(BaseSettings):
    """Names as in the environment, with ``ASTER_`` before them; a file has lines such as ``ASTER_AGENT_KEY=…``.

    Attributes
    ----------
    agent_key : private key of an agent (V3), 64 hex digits; it may trade and never withdraw.
    api_key, api_secret : of V1, for holders of old keys.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", hide_input_in_errors=True)

    agent_key: SecretStr | None = None
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None


class _OfFile(Secrets):
    """What the file says, whatever stands in the environment."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *, dotenv_settings: PydanticBaseSettingsSource, **_: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (dotenv_settings,)


def operator_key(path: Path) -> OperatorKey:
    """The key that configs are approved with, of a file that holds nothing else; raises like ``signing_key``."""
    _check_private(path)
    return OperatorKey(path.read_text(encoding="ascii").strip())


def signing_key(path: Path | None) -> SigningKey:
    """The key to sign with: of the file before the environment, and the agent's where there is one.

    What stood in the environment is taken out of it, so that no child process inherits it.

    Parameters
    ----------
    path : of a file; None for the environment alone.

    Raises
    ------
    LookupError
        When there is no such file, or no key in it.
    ValueError
        When others may read the file, or it holds no key.
    """
    if path is not None:
        _check_private(path)
    try:
        told = [Secrets()] if path is None else [_OfFile(_env_file=path), Secrets()]
    except ValidationError as error:
        raise ValueError(f"keys: expected lines such as ASTER_AGENT_KEY=…; {error.error_count()} are not") from None
    for name in Secrets.model_fields:
        os.environ.pop(f"{_PREFIX}{name}".upper(), None)
    for secrets in told:
        if secrets.agent_key is not None:
            return AgentKey(secrets.agent_key.get_secret_value())
        if secrets.api_key is not None and secrets.api_secret is not None:
            return ApiKey(secrets.api_key.get_secret_value(), secrets.api_secret.get_secret_value())
    where = "the environment" if path is None else f"{path} or the environment"
    raise LookupError(f"no key in {where}: expected ASTER_AGENT_KEY, or ASTER_API_KEY and ASTER_API_SECRET")


def _check_private(path: Path) -> None:
    require_private(path, "keys")
    owner = path.stat().st_uid
    if owner not in (0, os.geteuid()):
        raise ValueError(f"{path}: expected a file of this user or of root, got one of user {owner}; chown it")
