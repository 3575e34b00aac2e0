"""Which MQTT topics of dead messages a filter takes, found level by level in the index of topics.

Topics are known by their first 200 characters (KNOWN). A filter's literal levels cost nothing; a `+` skips from one
value of its level to the next, a `#` from one topic to the next. So `v3/+/devices/dev17/up` costs as many probes as
there are values at its `+`, whatever number of devices there is. Where a level has too many values, the topics
themselves are gone through once instead. Order is by bytes (collation "C"), where `/` comes before `0` and nothing
between them.
"""

import re
from typing import Any

import psycopg

KNOWN = 200
MANY = 2_000  # values of a level

# Of every prefix the values at the next level, or (whole) the topics below it: the first topic at or after a key, then
# the first one after all that belong to it.
_BELOW = """
with recursive below as (
  select p.prefix, n.name from unnest(%(prefixes)s::text[]) as p (prefix) cross join lateral (
    select left(m.mqtt_topic, 200) collate "C" as name from store.dead_message m
     where left(m.mqtt_topic, 200) collate "C" >= p.prefix
     order by left(m.mqtt_topic, 200) collate "C" limit 1) n
   where starts_with(n.name, p.prefix)
  union all
  select b.prefix, n.name from below b
   cross join lateral (
     select split_part(substr(b.name, char_length(b.prefix) + 1), '/', 1) as value) v
   cross join lateral (
     select case when %(whole)s or char_length(b.name) = 200 or b.name = b.prefix || v.value then b.name || chr(1)
                 else b.prefix || v.value || '0' end as key) k
   cross join lateral (
     select left(m.mqtt_topic, 200) collate "C" as name from store.dead_message m
      where left(m.mqtt_topic, 200) collate "C" >= k.key
      order by left(m.mqtt_topic, 200) collate "C" limit 1) n
   where starts_with(n.name, b.prefix))
select prefix, name from below
 where %(regex)s::text is null or name ~ %(regex)s or char_length(name) = 200 limit %(most)s
"""

Connection = psycopg.AsyncConnection[Any]


def fault(topic_filter: str) -> str | None:
    """What is wrong with a filter; it would choose nothing."""
    try:
        topic_filter.encode()
    except UnicodeEncodeError:
        return "not in UTF-8"
    levels = topic_filter.split("/")
    wild = [level for level in levels if {"+", "#"} & set(level)]
    if not topic_filter or set(wild) - {"+", "#"} or "#" in levels[:-1]:
        return "'+' takes a whole level and '#' the whole rest, as in a/+/c or a/#"
    return None


def regex(topic_filter: str) -> str:
    """A topic filter as PostgreSQL's regular expression; a/# takes a too."""
    levels = ["[^/]*" if level == "+" else _quoted(level) for level in topic_filter.split("/")]
    if topic_filter.rsplit("/", maxsplit=1)[-1] != "#":
        return "^" + "/".join(levels) + "$"
    return "^" + "/".join(levels[:-1]) + ("(/.*)?$" if levels[:-1] else ".*$")


def _quoted(level: str) -> str:
    return "".join(sign if sign.isalnum() or not sign.isascii() else f"\\{sign}" for sign in level)


def is_exact(topic_filter: str) -> bool:
    """Whether a filter names one topic."""
    return not {"+", "#"} & set(topic_filter.split("/"))


async def matching(conn: Connection, topic_filter: str) -> list[str]:
    """Beginnings of the topics that a filter may take: none is missing, and a regular expression has the last word."""
    levels = topic_filter.split("/")
    found: set[str] = set()
    prefixes = [""]
    for place, level in enumerate(levels):
        if level in {"+", "#"}:
            below = await _below(conn, prefixes, whole=level == "#", most=MANY + 1)
            if len(below) > MANY:
                return await _one_by_one(conn, topic_filter)
            reached = [name if level == "#" else _value(prefix, name) for prefix, name in below]
        else:
            reached = [prefix + level for prefix in prefixes]
        last = place == len(levels) - 1
        found.update(name[:KNOWN] for name in reached if last or len(name) >= KNOWN)
        if level == "#":  # a/# takes a too
            found.update(prefix[:-1] for prefix in prefixes if prefix)
        prefixes = sorted({name + "/" for name in reached if len(name) < KNOWN})
    return sorted(found)


def _value(prefix: str, name: str) -> str:
    return name if len(name) == KNOWN else prefix + name[len(prefix) :].partition("/")[0]


async def _one_by_one(conn: Connection, topic_filter: str) -> list[str]:
    """All topics that begin as the filter does up to its first wildcard, judged where they are found."""
    literal = re.split(r"(?:^|(?<=/))[+#]", topic_filter, maxsplit=1)[0][:KNOWN]
    below = await _below(conn, [literal], whole=True, judged=regex(topic_filter))
    parent = [literal[:-1]] if literal.endswith("/") else []
    return sorted({name for _, name in below} | set(parent))


async def _below(
    conn: Connection, prefixes: list[str], *, whole: bool, judged: str | None = None, most: int | None = None
) -> list[tuple[str, str]]:
    values = {"prefixes": prefixes, "whole": whole, "regex": judged, "most": most}
    return await (await conn.execute(_BELOW, values)).fetchall()
