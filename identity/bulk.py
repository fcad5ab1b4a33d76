"""Many rows updated each to its own values, by their keys.

Django's bulk_update() builds one large CASE expression for each column, which costs more than
everything else that is done with a batch of lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import connection, models


def update_rows(rows: Iterable[models.Model], fields: Sequence[str]) -> None:
    """Write `fields` of every row, in the order of their keys; rows are of one model."""
    ordered = sorted(rows, key=_key)
    if not ordered:
        return
    meta = ordered[0]._meta
    known = {column.name: column for column in meta.concrete_fields}
    columns = [known[name] for name in fields]
    quote = connection.ops.quote_name
    changes = ", ".join(f"{quote(str(column.column))} = %s" for column in columns)
    statement = (
        f"UPDATE {quote(meta.db_table)} SET {changes}"  # noqa: S608 our own names only
        f" WHERE {quote('id')} = %s"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            [
                (
                    *(
                        column.get_db_prep_save(getattr(row, column.attname), connection)
                        for column in columns
                    ),
                    row.pk,
                )
                for row in ordered
            ],
        )


def _key(row: models.Model) -> int:
    key: int = row.pk
    return key
