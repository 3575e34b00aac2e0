"""`hanse-storage dead-letters` on a real database: every filter, every page, and no more purged than was asked for."""

import asyncio
import itertools
import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner

from storage import letters, topics
from storage.__main__ import main
from storage.migrate import migrate
from storage.rows import DeadLetter, StreamTable
from storage.timescale import Writer
from tests.integration.batches import KIEL, T0, TEMPERATURE, WISMAR, batch, message

START = datetime.fromtimestamp(T0 / 1e6, UTC)
REASONS = ("unknown_unit", "no_route", "invalid_json")


@pytest.fixture
async def dsn(database, monkeypatch):
    """Thirty letters of two cities and three reasons, a second apart."""
    migrate(database)
    writer = Writer(database)
    await writer.register([KIEL, WISMAR], [TEMPERATURE])
    for number, city in enumerate(("kiel", "wismar")):
        dead = [DeadLetter(0, n, None, REASONS[n % 3], "why", f"dev{n}") for n in range(15)]
        one = batch(StreamTable(), [], city=city, dead=dead)

        def at(offset, city=city, number=number):
            payload = b'{"PASSKEY":"geheim","n":%d}' % offset
            received = T0 // 1000 + offset * 2000 + number * 1000
            return message(offset)._replace(
                topic=f"v3/{city}/devices/dev{offset}/up", payload=payload, received_ms=received
            )

        one.spans[0].messages_at = at
        await writer.commit(one)
    await writer.close()
    monkeypatch.setenv("HANSE_DATABASE_DSN", database)
    return database


def run(*words, code=0):
    done = CliRunner().invoke(main, ["dead-letters", *words])
    assert done.exit_code == code, done.output
    return done


def listed(*words):
    return [json.loads(line) for line in run("list", "--json", *words).stdout.splitlines()]


def test_pages_follow_each_other_without_a_gap_or_a_repeat(dsn):
    found, after = [], []
    while page := listed("--limit", "7", *after):
        found += page
        after = ["--after", f"{page[-1]['received_at']}/{page[-1]['letter_id']}"]
    times = [letter["received_at"] for letter in found]
    assert len({letter["letter_id"] for letter in found}) == len(found) == 30
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--city", "kiel"], 15),
        (["--city", "kiel", "--city", "wismar"], 30),
        (["--reason", "no_route"], 10),
        (["--reason", "no_route", "--reason", "invalid_json", "--city", "wismar"], 10),
        (["--since", (START + timedelta(seconds=20)).isoformat()], 10),
        (["--until", (START + timedelta(seconds=20)).isoformat()], 20),
        (["--since", "2026-11-23", "--until", "2026-11-23T12:00:02Z"], 2),
        (["--topic", "v3/kiel/devices/dev3/up"], 1),
        (["--topic", "v3/+/devices/dev3/up"], 2),
        (["--topic", "v3/kiel/#", "--reason", "no_route"], 5),
        (["--topic", "v3/kiel"], 0),
        (["--topic", "#", "--until", (START + timedelta(seconds=20)).isoformat()], 20),
        (["--id", "1", "--id", "7", "--id", "999"], 2),
        (["--state", "closed"], 0),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else str(words),
)
def test_filters_take_exactly_what_they_say(dsn, words, count):
    assert len(listed(*words)) == count


TOPICS = (
    "v3/kiel/devices/dev3/up",
    "v3/+/devices/dev3/up",
    "v3/+/devices/+/up",
    "v3/kiel/#",
    "v3/kiel/devices/dev3/up/#",
    "+/+/+/dev3/#",
    "+/wismar/#",
    "#",
    "v3/+/devices/dev3",
    "+",
    "v3/#",
    "/#",
)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_ways_to_a_topics_letters_lead_to_the_same(dsn, monkeypatch, topic):
    everything = listed("--limit", "1000")
    matches = re.compile(topics.regex(topic))
    wanted = [one["letter_id"] for one in everything if matches.search(one["mqtt_topic"])]
    for few in (5_000, 4):  # the chosen letters; then the newest messages, or by topic where they don't fill a page
        monkeypatch.setattr("storage.letters.FEW", few)
        for limit in (4, 1000):
            found, after = [], []
            while page := listed("--topic", topic, "--limit", str(limit), *after):
                found += [one["letter_id"] for one in page]
                after = ["--after", f"{page[-1]['received_at']}/{page[-1]['letter_id']}"]
            assert found == wanted, (few, limit)


LEVELS = ("a", "b", "a-1", "a.1", "a0", "ä", "", "x" * 120)


@pytest.mark.parametrize("many", [topics.MANY, 3])
def test_no_topic_that_a_filter_takes_is_missed(database, monkeypatch, many):
    """Levels that begin alike, with signs before and after the slash, empty ones, and topics longer than the index."""
    monkeypatch.setattr(topics, "MANY", many)
    migrate(database)
    names = ["/".join(levels) for depth in (1, 2, 3) for levels in itertools.product(LEVELS, repeat=depth)]
    filters = [
        "/".join(levels) for depth in (1, 2, 3) for levels in itertools.product(("+", "a", "", "x" * 120), repeat=depth)
    ]
    filters += [f"{one}/#" for one in filters if one.count("/") < 2] + ["#"]
    with psycopg.connect(database) as conn:
        conn.execute("insert into store.city (key, name) values ('kiel', 'Kiel')")
        with conn.cursor() as cursor:
            cursor.executemany(
                'insert into store.dead_message (topic, partition, "offset", received_at, city_id, mqtt_topic, '
                "retained, stub, payload) select 't', 0, %s, now(), city_id, %s, false, false, '' from store.city",
                list(enumerate(names)),
            )

    async def missed():
        async with letters.opened(database) as conn:
            for topic_filter in filters:
                matches = re.compile(topics.regex(topic_filter))
                beginnings = {name[: topics.KNOWN] for name in names if matches.search(name)}
                assert beginnings <= set(await topics.matching(conn, topic_filter)), topic_filter

    asyncio.run(missed())


def test_a_letter_is_shown_whole_and_its_secret_is_not(dsn):
    [letter] = listed("--topic", "v3/kiel/devices/dev3/up")
    shown = run("show", str(letter["letter_id"])).output
    for word in ("kiel", "unknown_unit", "v3/kiel/devices/dev3/up", '"n":3', "dev3"):
        assert word in shown
    assert "geheim" not in shown + json.dumps(listed()) + run("show", "--json", "1").output
    gone = run("show", "999", code=1)
    assert "never was, or it was purged" in gone.output


def test_a_letter_whose_message_is_not_byte_for_byte_what_came_says_so(dsn):
    with psycopg.connect(dsn) as conn:
        conn.execute("update store.dead_message set masked = true where mqtt_topic = 'v3/kiel/devices/dev3/up'")
    assert [one["device"] for one in listed() if one["masked"]] == ["dev3"]
    assert [one["masked"] for one in listed("--topic", "v3/kiel/devices/dev3/up")] == [True]
    [letter] = listed("--topic", "v3/+/devices/dev3/up", "--city", "kiel")
    shown = run("show", str(letter["letter_id"])).output
    assert [line.split()[-1] for line in shown.splitlines() if line.strip().startswith("masked")] == ["True"]


def test_the_counts_are_those_of_the_table_and_purging_tells_what_went(dsn):
    told = json.loads(run("stats", "--json").output)
    assert {(row["city"], row["reason"], row["letters"]) for row in told["letters"]} == {
        (city, reason, 5) for city in ("kiel", "wismar") for reason in REASONS
    }
    assert "unknown_unit" in run("stats").output
    with psycopg.connect(dsn) as conn:
        weight = "select sum(open_bytes)::int8 from store.dead_letter_bytes"
        [before] = conn.execute(weight).fetchone()
    assert (
        "purged 5 letters" in run("purge", "--state", "open", "--city", "kiel", "--reason", "no_route", "--yes").output
    )
    told = json.loads(run("stats", "--json").output)
    assert sum(row["letters"] for row in told["letters"]) == 25
    assert [(row["city"], row["reason"], row["letters"]) for row in told["purged"]] == [("kiel", "no_route", 5)]
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from store.dead_message").fetchone() == (25,)
        [after] = conn.execute(weight).fetchone()
        [(left,)] = conn.execute("select sum(octet_length(payload) + 256)::int8 from store.dead_message").fetchall()
    assert after == left < before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--city", "keil"], 1, "the database has no city 'keil'; it has kiel, wismar"),
        (["--id", "99999999999999999999"], 2, "is not in the range"),
        (["--topic", "a/#/b"], 2, "'+' takes a whole level"),
        (["--topic", "a+/b"], 2, "'+' takes a whole level"),
        (["--since", "2026-11-24", "--until", "2026-11-23"], 2, "is not after --since"),
        (["--until", "2026-11-23", "--since", "2026-11-23"], 2, "is not after --since"),
    ],
)
@pytest.mark.parametrize("command", ["list", "purge"])
def test_a_choice_that_can_take_nothing_says_so(dsn, command, words, code, said):
    yes = ["--yes"] if command == "purge" else []
    assert said in run(command, *words, *yes, code=code).output


def test_a_page_is_for_grep_where_no_terminal_is_and_says_when_it_is_empty(dsn):
    shown = run("list", "--city", "kiel", "--limit", "1").stdout
    first, second = shown.splitlines()
    assert first.split()[3:] == ["kiel", "invalid_json"]
    assert second.split() == ["dev14", "v3/kiel/devices/dev14/up"]
    assert run("list", "--state", "closed").stdout == "no letter is chosen\n"


def test_nothing_is_purged_without_a_choice_or_a_yes(dsn):
    assert "say --yes" in run("purge", "--state", "open", code=2).output
    assert "Aborted" in run("purge", "--state", "open", "--city", "kiel", code=1).output
    assert "purged 0 letters" in run("purge", "--yes").output
    assert len(listed()) == 30
    assert "no time; write" in run("list", "--since", "yesterday", code=2).output
    assert "the value that the page before gave" in run("list", "--after", "x", code=2).output
