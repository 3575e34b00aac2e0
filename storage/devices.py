"""What a city's file says of its sensors, kept current in their datastreams: location and parameters.

The file is the authority: what it does not say any more is removed. Datastreams that exist are brought up to date when
a process registers, new ones when they are made, in the batch's transaction.
"""

from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from storage.rows import Describe, clean

KNOWN = "select city_id, device from store.datastream where city_id = any(%s) group by city_id, device"
# In the order of the ids, like every writer that changes several datastreams.
PLACE = """
with changed as (
  select d.datastream_id, n.latitude, n.longitude, n.parameters::jsonb as parameters
    from unnest(%s::int4[], %s::text[], %s::float8[], %s::float8[], %s::text[])
         as n (city_id, device, latitude, longitude, parameters)
    join store.datastream d on d.city_id = n.city_id and d.device = n.device
   where (d.latitude, d.longitude, d.parameters) is distinct from (n.latitude, n.longitude, n.parameters::jsonb)
   order by d.datastream_id for no key update of d)
update store.datastream d set latitude = c.latitude, longitude = c.longitude, parameters = c.parameters
  from changed c where c.datastream_id = d.datastream_id
"""
PARAMETER_CHARACTERS = 100_000

Connection = psycopg.AsyncConnection[Any]


async def place(conn: Connection, devices: Collection[tuple[str, int, str]], describe: Describe) -> None:
    """Bring the datastreams of these devices (city, its id, device) up to date."""
    told = {(city_id, device): describe(city, device) for city, city_id, device in devices}
    if told:
        rows = [
            (*key, facts.latitude, facts.longitude, clean(facts.parameters, PARAMETER_CHARACTERS))
            for key, facts in sorted(told.items())
        ]
        await conn.execute(PLACE, [list(column) for column in zip(*rows, strict=True)])


async def place_all(conn: Connection, city_ids: Mapping[str, int], describe: Describe) -> None:
    """The same for every device of these cities."""
    keys = {city_id: key for key, city_id in city_ids.items()}
    cursor = await conn.execute(KNOWN, (list(keys),))
    await place(conn, [(keys[city_id], city_id, device) for city_id, device in await cursor.fetchall()], describe)
