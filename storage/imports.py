"""What an import asks of the database beyond offsets: whose city a file was, and how far back readings are kept."""

from typing import NamedTuple

from storage import connection
from storage.errors import outcome

KNOWN = """
select (select city from hanse.ledger where topic = %s),
       (select (extract(epoch from retained_from) * 1000000)::int8 from store.rollup_state)
"""


class Known(NamedTuple):
    """`city`: the one the file was imported for, None for a file not seen. `retained_from`: microseconds since 1970."""

    city: str | None
    retained_from: int


async def known(dsn: str, topic: str) -> Known:
    """What is known of a file, by its ledger key. Reads only. Raises Unavailable, Refused."""
    conn = await connection.connect(dsn, "hanse-import")
    try:
        row = await (await conn.execute(KNOWN, (topic,))).fetchone()
    except Exception as error:
        raise outcome(error) from error
    finally:
        await conn.close()
    assert row is not None, "one row of constants"
    return Known(*row)
