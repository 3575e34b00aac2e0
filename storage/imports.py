"""What the database knows of imported files beyond their offsets: whose city they were. Reads only."""

from storage import connection
from storage.errors import outcome

CITY = "select city from hanse.ledger where topic = %s"


async def city_of_import(dsn: str, topic: str) -> str | None:
    """City for which a file was imported, by its ledger key; None for a file not seen. Raises Unavailable, Refused."""
    conn = await connection.connect(dsn, "hanse-import")
    try:
        row = await (await conn.execute(CITY, (topic,))).fetchone()
    except Exception as error:
        raise outcome(error) from error
    finally:
        await conn.close()
    return None if row is None else str(row[0])
