"""Which container a text means: its row by full id, name, or the start of an id, looked up in this order."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store.database import Database, Row

COLUMNS = "id, name, image, layer, created, config"
_HEX = frozenset("0123456789abcdef")


def container(database: Database, text: str) -> Row:
    """The row, as COLUMNS. Raises ContainerNotFound, AmbiguousId."""
    for column, value in (("id", text), ("name", text.removeprefix("/"))):
        row = database.row(f"SELECT {COLUMNS} FROM containers WHERE {column} = ?", (value,))
        if row is not None:
            return row
    if 0 < len(text) <= 64 and _HEX.issuperset(text):
        rows = database.rows(f"SELECT {COLUMNS} FROM containers WHERE id >= ? AND id < ?", (text, text + "g"))
        if len(rows) > 1:
            from builder.errors import AmbiguousId

            raise AmbiguousId(text, tuple(row[0] for row in rows))
        if rows:
            return rows[0]
    from builder.errors import ContainerNotFound

    raise ContainerNotFound(text)
