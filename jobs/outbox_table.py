"""The outbox's table for SQLAlchemy: what its migrations create, and what rows are written into."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .outbox import TABLE, WRITTEN_US


def outbox_table(metadata: MetaData) -> Table:
    """The outbox's table among an application's own.

    Alembic then finds it as it finds the others. To create it without: `metadata.create_all()`.
    """
    if TABLE in metadata.tables:
        return metadata.tables[TABLE]
    number = BigInteger().with_variant(Integer, "sqlite")
    return Table(
        TABLE,
        metadata,
        Column("id", number, primary_key=True, autoincrement=True),
        Column("job_id", String(36), nullable=False),
        Column("account", String(32), nullable=False),
        Column("lane", String(4), nullable=False),
        Column("document", Text, nullable=False),
        Column("written_us", BigInteger, nullable=False),
        UniqueConstraint("job_id", name=f"{TABLE}_job_id"),
    )


class written_us(FunctionElement[int]):  # noqa: N801  (as SQL functions are written)
    """The database's time of the statement: microseconds since 1970."""

    type = BigInteger()
    inherit_cache = True


@compiles(written_us)
def _compile(_element: written_us, compiler: Any, **_options: Any) -> str:
    try:
        return WRITTEN_US[compiler.dialect.name]
    except KeyError:
        known = ", ".join(WRITTEN_US)
        raise NotImplementedError(
            f"the outbox knows {known}, and not {compiler.dialect.name}"
        ) from None
