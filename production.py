"""What a service that is meant, with ENVIRONMENT=production, does not accept of its settings.

Each refusal is a ValueError with a sentence for the operator, without a part of a secret.
"""

from pydantic import SecretStr

from locations import SHORTEST_SECRET

MEANT = "With ENVIRONMENT=production"


def refuse_gaps(**needed: object) -> None:
    """Refuse that one of these is not set: nothing is assumed."""
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ValueError(f"{MEANT} nothing is assumed: set {', '.join(missing)}")


def refuse_short_secret(secret: SecretStr | None) -> None:
    """Refuse a SECRET_KEY that is shorter than what it signs with."""
    if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
        raise ValueError(f"{MEANT} SECRET_KEY needs at least {SHORTEST_SECRET} characters")
