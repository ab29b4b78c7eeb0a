"""`courier hash`."""

from __future__ import annotations

import click

from ..config import load_settings
from ..config.connections import connect_briefly
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs import rules
from ..jobs.emails import email_hash
from ..jobs.errors import InvalidJob
from ..state.email_hash import EmailHash
from .main import EXIT_UNREACHABLE, EXIT_USAGE, Failure


@click.command(
    "hash",
    epilog="""\b
Examples:
  courier hash ada@example.com
  grep "$(courier hash ada@example.com)" worker.log
""",
)
@click.argument("email")
def command(email: str) -> None:
    """Print what stands for an EMAIL in the workers' logs and in Flower.

    It takes the key that is kept in Redis, so nobody can make it of the email alone.
    """
    settings = load_settings()
    client = connect_briefly(settings)
    try:
        email = rules.email(email)
    except InvalidJob as invalid:
        raise Failure(f"EMAIL: {invalid.errors[0].message}", EXIT_USAGE) from None
    try:
        key = EmailHash(lambda: client).key()
    except RedisError as error:
        raise Failure(describe_redis_error(settings, error), EXIT_UNREACHABLE) from None
    finally:
        client.close()
    click.echo(email_hash(email, key))
