"""Dead letters back through Kafka, on the real servers: each closes once, the ledger balances, nothing is guessed."""

import concurrent.futures
import signal
import subprocess
import sys
import time

import pytest

from ingest import wire
from tests.integration.processes import ROOT, City, eventually, reading

NOW = time.time_ns() // 1_000_000
DAY = 86_400_000
BEYOND = "beyond the city's budget"


@pytest.fixture
def city(kafka, database, city_key, tmp_path):
    made = City(kafka, database, city_key, tmp_path)
    yield made
    made.stop()


def replay(city, *words):
    return city.run("processors", "replay", *(words if "--wait" in words else ("--wait", "90", *words)))


def refused(city, *topics, days=40):
    """Messages that die today: no route, or older than the window."""
    city.publish(*((topic, reading(f"d{n}", NOW - days * DAY, n)) for n, topic in enumerate(topics)), at_ms=NOW)


def test_after_the_cure_letters_become_rows_and_the_ledger_balances(city):
    city.start()
    good = (f"hanse/{city.key}/weather/good", reading("good", NOW, 7.0))
    city.publish(good, ("elsewhere/d", reading("routed", NOW, 1.0)), ("elsewhere/e", b"{"), at_ms=NOW)
    refused(city, f"hanse/{city.key}/weather/d0", f"hanse/{city.key}/weather/d1")
    before = city.settled(5)
    assert sorted(city.letters()) == [
        *[("no_route", "open", None)] * 2,
        *[("time_out_of_range", "open", None)] * 2,
    ]
    told = replay(city, "--dry-run", str(city.file))
    assert "dead: no_route" in told
    city.configure("elsewhere/#")
    assert "1 stored" in (told := replay(city, "--dry-run", str(city.file)))
    registered = city.sql("select * from store.city")
    city.configure("elsewhere/#", max_age="P60D")
    told = replay(city, "--dry-run", str(city.file))
    assert city.sql("select * from store.city") == registered, "a draft of a city file is not put into force"
    assert "dead: invalid_json" in told
    assert "1 stored" in told
    assert city.ledger() == before
    assert city.rows() == [("good", 7.0)]
    city.restart()
    told = replay(city)
    assert "stored" in told
    after = city.settled(9)
    assert city.rows() == [("d0", 0.0), ("d1", 1.0), ("good", 7.0), ("routed", 1.0)]
    assert sorted(city.letters()) == [
        ("invalid_json", "open", "dead: invalid_json"),
        ("no_route", "closed", "1 stored"),
        *[("time_out_of_range", "closed", "stored")] * 2,
    ]
    assert {name: after[name] for name in before if not name.startswith("replayed")} == {
        name: count for name, count in before.items() if not name.startswith("replayed")
    }
    assert (after["replayed"], after["replayed_stored"], after["replayed_dead"]) == (4, 3, 1)
    [(late,)] = city.sql(
        "select count(*) from hanse.observations where received_at = phenomenon_time + interval '40 d'"
    )
    assert late == 2, "the receive time is the original one"


def test_a_second_replay_finds_nothing_and_a_record_sent_twice_changes_nothing(city):
    city.start()
    refused(city, f"hanse/{city.key}/weather/d0")
    city.settled(1)
    city.configure(max_age="P60D")
    city.restart()
    replay(city)
    city.settled(2)
    assert "no letter is chosen" in replay(city)
    [(letter, received, offset)] = city.sql(
        'select letter_id, (extract(epoch from received_at) * 1000)::int8, "offset" from store.dead_letter'
    )
    header = wire.replay_header(wire.Replay(letter, 0, "air_temperature", received, offset))
    for other in (header, wire.replay_header(wire.Replay(letter + 99, 0, None, received, offset)), ("replay", b"7")):
        city.publish((f"hanse/{city.key}/weather/d0", reading("d0", NOW, 9.0)), extra=[other])
    after = city.settled(5)
    assert city.rows() == [("d0", 0.0)]
    assert (after["replayed"], after["replayed_ignored"], after["dead_messages"]) == (3, 2, 1)
    assert ("malformed", "open", None) in city.letters()


def test_two_replays_at_once_close_each_letter_once(city):
    city.start()
    refused(city, *(f"hanse/{city.key}/weather/d{n}" for n in range(40)))
    city.settled(40)
    city.configure(max_age="P60D")
    city.restart()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: replay(city), range(2)))
    eventually(lambda: not city.sql("select 1 from store.dead_letter where state <> 'closed'"), what="all closed")
    [(end,)] = city.sql("select sum(next_offset)::int8 from store.consumer_offset")
    after = city.settled(end)
    assert after["replayed_stored"] == 40
    assert after["replayed"] == 40 + after["replayed_ignored"]
    assert len(city.rows()) == 40


def test_a_replay_killed_halfway_is_gone_on_with(city):
    city.start()
    refused(city, *(f"hanse/{city.key}/weather/d{n}" for n in range(60)))
    city.settled(60)
    city.configure(max_age="P60D")
    city.stop()
    argv = [sys.executable, "-m", "processors", "replay", "--rate", "5"]
    process = subprocess.Popen(
        argv, cwd=ROOT, env=city.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    sent = "select count(*) from store.dead_letter where state = 'replaying'"
    eventually(lambda: city.sql(sent)[0][0] >= 8, what="some are sent")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert city.sql(sent)[0][0] < 60
    told = replay(city, "--wait", "0")
    assert "on their way" in told
    assert city.sql(sent) == [(60,)]
    assert city.open_bytes() == 0
    city.start()
    eventually(lambda: not city.sql("select 1 from store.dead_letter where state <> 'closed'"), what="all closed")
    assert len(city.rows()) == 60
    assert city.ledger()["unaccounted"] == 0


def test_a_correction_takes_the_place_of_the_value_that_stands(city):
    city.sql("update store.rollup_state set threshold = '2099-01-01Z'")
    city.start()
    topic = f"hanse/{city.key}/weather/d"
    city.publish((topic, reading("d", NOW, 1.0)), (topic, reading("d", NOW, 2.0)), at_ms=NOW)
    city.settled(2)
    city.sql("delete from store.rollup_dirty")
    assert "dead: conflicting_value" in replay(city, "--dry-run", str(city.file))
    assert "corrected" in replay(city, "--dry-run", "--correct", str(city.file))
    assert "dead: conflicting_value" in replay(city)
    assert city.rows() == [("d", 1.0)]
    assert "corrected" in replay(city, "--correct")
    after = city.settled(4)
    assert city.rows() == [("d", 2.0)]
    assert city.sql("select count(*) from store.rollup_dirty") == [(1,)]
    assert (after["replayed_corrected"], after["replayed_dead"], after["stored"]) == (1, 1, 1)
    wrong = city.command("processors", "replay", "--correct", "--reason", "no_route")
    assert wrong.returncode == 2
    assert "conflicting_value alone" in wrong.stderr


def test_a_purged_letter_can_not_be_replayed_and_the_ledger_stays_honest(city):
    city.start()
    city.publish(("elsewhere/d", b"\0\1binary"), ("elsewhere/d", b"{}"), at_ms=NOW)
    before = city.settled(2)
    assert "purged 1 letters" in city.run("storage", "dead-letters", "purge", "--state", "open", "--id", "1", "--yes")
    assert city.settled(2) == before
    assert city.sql("select letter_id from store.dead_letter") == [(2,)]
    assert city.sql("select count(*) from store.dead_message") == [(1,)]
    assert city.sql("select reason, state, letters from store.dead_letter_purge") == [("no_route", "open", 1)]
    gone = city.command("processors", "replay", "--id", "1")
    assert gone.returncode == 1
    assert "no open letter has the id given" in gone.stderr
    city.sql("delete from store.dead_message")
    assert "payload purged" in replay(city, "--id", "2")


def test_a_city_beyond_its_budget_goes_on_once_its_letters_are_on_their_way(city):
    city.configure(dead_letter_bytes=400)
    process = city.start()
    city.publish(("elsewhere/d0", reading("d0", NOW, 1.0)), at_ms=NOW)
    city.settled(1)
    city.publish(("elsewhere/d1", reading("d1", NOW, 1.0)), at_ms=NOW)
    city.settled(2)
    eventually(lambda: BEYOND in process.log, what="the pause")
    city.publish((f"hanse/{city.key}/weather/good", reading("good", NOW, 1.0)), at_ms=NOW)
    time.sleep(2)  # nothing must happen: it would be read by now
    assert city.rows() == [], "the city is paused"
    city.configure("elsewhere/#", dead_letter_bytes=400)
    city.stop()
    process = city.start()
    eventually(lambda: BEYOND in process.log, what="the pause once more")
    time.sleep(2)
    assert city.rows() == [], "and stays so after a restart"
    replay(city, "--wait", "60")
    city.settled(5)
    assert [device for device, _ in city.rows()] == ["d0", "d1", "good"]
    assert "within the city's budget again" in process.log


def test_a_replay_while_a_server_is_away_says_which(city, own_postgres):
    away = own_postgres()
    dsn = away.create_database("gone")
    away.stop()
    told = city.command("processors", "replay", HANSE_DATABASE_DSN=dsn)
    assert told.returncode == 1
    assert "database 'gone' at" in told.stderr
    assert "run it again" in told.stderr
    assert "Traceback" not in told.stderr
    assert "database 'gone' at" in told.stderr.splitlines()[-1]
    told = city.command("processors", "replay", HANSE_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert told.returncode == 1
    assert "Kafka at 127.0.0.1:1 can't be reached" in told.stderr.splitlines()[-1]
