"""What downstream services rely on: names and types that stay, JSON that is valid, numbers checked by hand.

On both editions of TimescaleDB.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from processors.standard.vocabulary import VOCABULARY
from storage.migrate import migrate
from tests.community.engine import NoEngineError, running

Query = Callable[..., list[tuple[Any, ...]]]
HERE = Path(__file__).parents[1]
SCHEMAS = HERE / "schemas"
PINNED = HERE / "contract" / "sql_contract.txt"
DOCS = HERE.parent / "docs" / "sql.md"
T0 = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOCATION = {"latitude": 54.1, "longitude": 12.1}


@contextmanager
def empty_database(request: pytest.FixtureRequest, edition: str) -> Iterator[str]:
    """The real Apache server's, or the Community edition's, which takes one connection at a time."""
    if edition == "apache":
        postgres = request.getfixturevalue("postgres")
        yield postgres.create_database("public_contract")
        postgres.drop_database("public_contract")
        return
    try:
        with running(request.getfixturevalue("tmp_path_factory").mktemp("community")) as dsn:
            yield dsn
    except NoEngineError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module", params=["apache", "community"])
def contract(request: pytest.FixtureRequest) -> Iterator[str]:
    """One migrated database for all tests of this module; each writes datastreams of its own."""
    with empty_database(request, request.param) as dsn:
        yield filled(dsn)


def filled(dsn: str) -> str:
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        conn.execute("update store.rollup_state set threshold = '2026-11-24Z', materialized = '2020-01-01Z'")
        conn.cursor().executemany(
            "insert into store.property (key, unit, domain, kind, aggregation, minimum, maximum) "
            "values (%s, %s, %s, %s, %s, %s, %s)",
            [(p.key, p.unit, p.domain, p.kind, p.aggregation, p.minimum, p.maximum) for p in VOCABULARY.values()],
        )
    return dsn


@pytest.fixture
def sql(contract: str) -> Query:
    def run(query: str, params: Any = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(contract, autocommit=True, prepare_threshold=None) as conn:
            conn.execute("set timezone = 'UTC'")
            cursor = conn.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def measured(sql: Query, city_key: str) -> Callable[..., int]:
    """Store a datastream with its readings (hours after T0, value[, quality]); returns its id."""

    def store(
        prop: str, readings: list[tuple[Any, ...]], *, city: str = "", device: str = "d1", channel: str = "",
        parameters: dict[str, Any] | None = None, latitude: float | None = None, longitude: float | None = None,
    ) -> int:  # fmt: skip
        key = (city_key[-20:] + city).lstrip("_")
        key = key if key[0].isalpha() else "c" + key
        sql("insert into store.city (key, name) values (%s, 'Hansestadt') on conflict do nothing", (key,))
        stream = sql(
            "insert into store.datastream (city_id, device, channel, property_id, raw_key, raw_unit, dialect, "
            "parameters, latitude, longitude) select c.city_id, %s, %s, p.property_id, '', '', 'hanse', %s, %s, %s "
            "from store.city c, store.property p where c.key = %s and p.key = %s returning datastream_id",
            (device, channel, json.dumps(parameters or {}), latitude, longitude, key, prop),
        )[0][0]
        for hours, value, *quality in readings:
            sql(
                "insert into store.observation values (%s, %s, 0, %s, %s, %s)",
                (stream, quality[0] if quality else 1, T0 + hours * HOUR, value, T0 + hours * HOUR),
            )
        return stream

    return store


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert [tuple(pytest.approx(v) if isinstance(v, float) else v for v in row) for row in expected] == found


# The shape ----------------------------------------------------------------------------------------------------------


def shape(sql: Query) -> list[str]:
    columns = sql(
        "select format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)) from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where c.relnamespace = 'hanse'::regnamespace and c.relkind in ('v', 'm', 'r') order by c.relname, a.attnum"
    )
    functions = sql(
        "select format('%s(%s) %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid)) from pg_proc "
        "where pronamespace = 'hanse'::regnamespace order by 1"
    )
    version = sql("select format('version %s.%s', major, minor) from hanse.contract_version")
    return [line for (line,) in (*version, *columns, *functions)]


def test_no_migration_takes_a_column_away_or_changes_its_type_without_a_new_major_version(sql):
    pinned, found = PINNED.read_text().splitlines(), shape(sql)
    assert pinned == found, (
        f"hanse.* is another than {PINNED.name} says. Something added: raise minor; taken away or changed: raise "
        "major; then write what this test found into the file"
    )


def test_every_view_and_column_is_explained_in_the_documentation(sql):
    told = DOCS.read_text()
    for line in shape(sql)[1:]:
        name = line.split("(", maxsplit=1)[0].split(" ", maxsplit=1)[0]
        view, _, column = name.partition(".")
        section = re.search(rf"^## `hanse\.{view}[`(].*?(?=^## |\Z)", told, re.MULTILINE | re.DOTALL)
        assert section, f"docs/sql.md says nothing of hanse.{view}"
        assert not column or f"`{column}`" in section[0], f"docs/sql.md says nothing of hanse.{name}"


EXAMPLES = re.findall(r"^```sql\n(.*?)^```", DOCS.read_text() if DOCS.exists() else "", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[re.search(r"hanse\.\w+", e)[0] for e in EXAMPLES])  # type: ignore[index]
def test_an_example_of_the_documentation_runs(sql, example):
    sql(example)


def test_there_is_an_example_of_every_view(sql):
    views = {line.split("(")[0].split(".")[0] for line in shape(sql)[1:]}
    assert {name for example in EXAMPLES for name in re.findall(r"hanse\.(\w+)", example)} == views


# Cities side by side ------------------------------------------------------------------------------------------------


def test_cities_stand_side_by_side_each_datastream_weighing_the_same(sql, measured):
    measured("air_temperature", [(0, 4.0), (0.5, 6.0)], city="_a", device="one")
    measured("air_temperature", [(0.1, 9.0)], city="_a", device="two")
    measured("air_temperature", [(0.2, 1.0), (0.3, 99.0, 4)], city="_b")
    found = sql(
        "select right(city, 2), value, minimum, maximum, datastreams, readings, alliance_value, cities "
        "from hanse.city_comparison "
        "where resolution = 'hour' and property = 'air_temperature' and begins = %s order by 1", (T0,)
    )  # fmt: skip
    same(found, [("_a", 7.0, 4.0, 9.0, 2, 3, 4.0, 2), ("_b", 1.0, 1.0, 1.0, 1, 1, 4.0, 2)])


def test_levels_compare_by_energy_and_directions_as_vectors(sql, measured):
    for device, level, direction in (("one", 60.0, 350.0), ("two", 70.0, 20.0)):
        measured("noise_laeq", [(0, level)], device=device)
        measured("wind_direction", [(0, direction)], device=device)
    found = sql(
        "select property, value, alliance_value from hanse.city_comparison where resolution = 'day' and begins < %s "
        "and property in ('noise_laeq', 'wind_direction') order by 1", (T0 + HOUR,)
    )  # fmt: skip
    same(found, [("noise_laeq", 67.40362689494243, 67.40362689494243), ("wind_direction", 5.0, None)])


def test_a_city_and_a_range_reach_the_datastreams_index(sql, measured):
    stream = measured("snow_depth", [(0, 4.0)])
    assert stream
    plan = "\n".join(
        row[0] for row in sql("explain select * from hanse.city_comparison where resolution = 'day' "
                              "and property = 'snow_depth' and begins >= '2026-11-01Z' and begins < '2026-12-01Z'")
    )  # fmt: skip
    assert "p.key = 'snow_depth'" in plan or "key = 'snow_depth'" in plan
    assert "'hour'::text = 'day'" not in plan.replace("One-Time Filter", "")


# Extreme weather ----------------------------------------------------------------------------------------------------


def weather(sql: Query, stream: int) -> list[tuple[Any, ...]]:
    return sql(
        "select hazard, level, label, measure, value, (extract(epoch from hour - %s) / 3600)::int "
        "from hanse.extreme_weather where datastream_id = %s order by hour, measure", (T0, stream)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gust", "level", "label"),
    [(13.9, None, None), (14.0, 1, "Windböen"), (18.0, 2, "Sturmböen"), (25.0, 2, "schwere Sturmböen"),
     (29.0, 3, "orkanartige Böen"), (33.0, 3, "Orkanböen"), (39.0, 4, "extreme Orkanböen")],
)  # fmt: skip
def test_gusts_have_the_levels_of_the_weather_service(sql, measured, gust, level, label):
    stream = measured("wind_speed_gust", [(0, gust), (0.1, 2.0)])
    assert weather(sql, stream) == ([("gust", level, label, "gust", gust, 0)] if level else [])


def test_heat_counts_from_30_degrees_and_frost_strictly_below_zero(sql, measured):
    stream = measured("air_temperature", [(0, 30.0), (1, 29.9), (2, 0.0), (3, -0.1), (4, -10.0), (5, -10.1)])
    same(
        weather(sql, stream),
        [("heat", None, "Heißer Tag (Kenntag, keine Warnung)", "heat", 30.0, 0), ("frost", 1, "Frost", "cold", 0.1, 3),
         ("frost", 1, "Frost", "cold", 10.0, 4), ("frost", 2, "strenger Frost", "cold", 10.1, 5)],
    )  # fmt: skip


def test_rain_slides_over_the_border_of_hours(sql, measured):
    stream = measured("precipitation", [(0.75, 8.0), (1.25, 8.0), (1.75, 0.1)])  # 16 mm within 30 minutes
    assert weather(sql, stream) == [("heavy_rain", 2, "Starkregen", "rain_1h", 16.0, 1)]
    slow = measured("precipitation", [(n, 5.0) for n in range(7)], device="slow")  # 30 mm in six hours
    assert {(row[3], row[4], row[5]) for row in weather(sql, slow)} >= {("rain_6h", 30.0, 5), ("rain_6h", 30.0, 6)}


def test_rain_beyond_the_retention_of_readings_counts_by_whole_hours(sql, measured):
    stream = measured("precipitation", [])
    for hour, total in ((0, 10.0), (1, 16.0)):
        sql("insert into store.observation_hour (datastream_id, good, unchecked, suspect, failed, missing, hour, "
            "total) values (%s, 1, 0, 0, 0, 0, %s, %s)",
            (stream, T0 - timedelta(days=3000) + hour * HOUR, total))  # fmt: skip
    found = [(measure, value) for _, _, _, measure, value, _ in weather(sql, stream)]
    assert found == [("rain_1h", 16.0), ("rain_6h", 26.0)]


def test_a_surge_is_told_above_mean_water_and_only_where_that_is_known(sql, measured):
    known = {"mean_water_level": 5.0, "gauge_zero": -5.02}
    gauge = measured("water_level", [(0, 6.3)], parameters=known)
    nhn = measured("water_level_nhn", [(0, 1.6)], parameters=known)
    unknown = measured("water_level", [(0, 9.0)], device="unknown")
    odd = measured("water_level", [(0, 9.0)], device="odd", parameters={"mean_water_level": "five"})
    same(weather(sql, gauge), [("storm_surge", 2, "mittlere Sturmflut", "surge", 1.3, 0)])
    same(weather(sql, nhn), [("storm_surge", 3, "schwere Sturmflut", "surge", 1.62, 0)])
    assert weather(sql, unknown) == weather(sql, odd) == []


def test_hours_in_a_row_are_one_event_with_its_worst_level(sql, measured):
    stream = measured("wind_speed_gust", [(0, 15.0), (1, 30.0), (2, 19.0), (4, 14.5)])
    city = sql("select city from hanse.datastreams where datastream_id = %s", (stream,))[0][0]
    found = sql(
        "select hazard, level, label, (extract(epoch from begins - %s) / 3600)::int, "
        "(extract(epoch from ends - begins) / 3600)::int, peak from hanse.weather_events(%s, %s, %s)",
        (T0, T0, T0 + 24 * HOUR, city)
    )  # fmt: skip
    assert found == [("gust", 3, "orkanartige Böen", 0, 3, 30.0), ("gust", 1, "Windböen", 4, 1, 14.5)]


def test_suspect_and_failed_readings_make_no_event(sql, measured):
    assert weather(sql, measured("wind_speed_gust", [(0, 80.0, 3), (0.5, 85.0, 4)])) == []


# Energy and gaps ----------------------------------------------------------------------------------------------------


def test_consumption_counts_across_a_reset(sql, measured):
    stream = measured("electric_energy_import", [(0, 100.0), (0.5, 101.5), (1.2, 103.0), (2.1, 2.0)])
    found = sql(
        "select resolution, consumption, readings from hanse.energy_consumption where datastream_id = %s "
        "order by 1, begins", (stream,)
    )  # fmt: skip
    same(found, [("day", 5.0, 4), ("hour", 1.5, 2), ("hour", 1.5, 1), ("hour", 2.0, 1)])
    ends = sql(
        "select ends - begins from hanse.energy_consumption where datastream_id = %s and resolution = 'day'", (stream,)
    )
    assert ends == [(timedelta(days=1),)]


def test_gaps_are_carried_within_a_bound_and_marked(sql, measured):
    stream = measured("air_temperature", [(0, 4.0), (5, 6.0)])
    found = sql("select value, source from hanse.hourly_filled(%s, %s, %s, '2 hours')", (stream, T0, T0 + 6 * HOUR))
    assert found == [
        (4.0, "measured"),
        (4.0, "carried"),
        (4.0, "carried"),
        (None, "gap"),
        (None, "gap"),
        (6.0, "measured"),
    ]
    rain = measured("precipitation", [(0, 4.0)], device="rain")
    assert sql("select value, source from hanse.hourly_filled(%s, %s, %s)", (rain, T0, T0 + 2 * HOUR)) == [
        (4.0, "measured"),
        (None, "gap"),
    ]


# JSON of other standards --------------------------------------------------------------------------------------------


def validator(name: str) -> Draft202012Validator:
    schemas = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    nowhere = next(
        part for part in schemas["WeatherObserved"]["allOf"] if part.get("$ref", "").endswith("/allOf/properties")
    )
    nowhere["$ref"] = nowhere["$ref"].removesuffix("/allOf/properties")
    resources = [(s["$id"], Resource(s, DRAFT202012)) for s in schemas.values() if "$id" in s]
    return Draft202012Validator(
        schemas[name], registry=Registry().with_resources(resources), format_checker=FormatChecker()
    )


def entities(sql: Query, stream: int) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return sql(
        "select type, key_values, entity from hanse.ngsi_ld_entities e join hanse.datastreams d using (city) "
        "where d.datastream_id = %s order by e.device, e.channel, type", (stream,)
    )  # fmt: skip


def value_inside(prop: Any) -> float:
    """A plausible value, away from the edges, and a whole one where it may be large: some models count."""
    value = max(prop.minimum, min(prop.maximum, 0)) + (prop.maximum - max(prop.minimum, 0)) / 7
    return round(value, 0 if value > 100 else 3)


def test_every_property_is_an_attribute_of_a_valid_entity_or_listed_with_the_reason(sql, measured):
    streams = {
        key: measured(key, [(0, value_inside(prop))], parameters={"interval_s": 900}, **LOCATION)
        for key, prop in VOCABULARY.items()
    }
    found = entities(sql, next(iter(streams.values())))
    for kind, plain, _ in found:
        errors = [error.message for error in validator(kind).iter_errors(plain)]
        assert not errors, f"{kind}: {errors}"
    expressed = {(kind, name) for kind, plain, _ in found for name in plain}
    listed = dict(
        sql(
            "select property, reason from hanse.ngsi_ld_unexpressed where datastream_id = any(%s)",
            (list(streams.values()),),
        )
    )
    for key, prop in VOCABULARY.items():
        assert ((prop.sdm_type, prop.sdm_attribute) in expressed) != (key in listed), key
    assert {kind for kind, _, _ in found} == {kind for (kind,) in sql("select type from store.smart_data_type")}
    assert len(VOCABULARY) - len(listed) == 52


def test_the_table_of_models_is_the_vocabularys(sql):
    found = {row[0]: row[1:] for row in sql("select property, type, attribute, factor from store.smart_data_model")}
    assert found == {p.key: (p.sdm_type or None, p.sdm_attribute or None, p.sdm_factor) for p in VOCABULARY.values()}
    assert (
        sql(
            "select property from store.smart_data_model where reason is null and (unit_code is null or factor is null)"
        )
        == []
    )


def test_an_entity_has_the_models_number_its_unit_code_and_time(sql, measured):
    stream = measured(
        "relative_humidity", [(0, 50.0), (1, 74.0), (2, 70.0, 3)], device="Wetter Süd/1", channel="a:b", **LOCATION
    )
    ((kind, plain, entity),) = entities(sql, stream)
    city = plain["id"].split(":")[3]
    assert (kind, plain) == ("WeatherObserved", {
        "id": f"urn:ngsi-ld:WeatherObserved:{city}:Wetter%20S%C3%BCd%2F1:a%3Ab", "type": "WeatherObserved",
        "dateObserved": "2026-11-23T01:00:00.000000Z", "relativeHumidity": 0.74,
        "location": {"type": "Point", "coordinates": [12.1, 54.1]},
    })  # fmt: skip
    assert entity["relativeHumidity"] == {
        "type": "Property",
        "value": 0.74,
        "unitCode": "C62",
        "observedAt": "2026-11-23T01:00:00.000000Z",
    }
    assert entity["location"] == {"type": "GeoProperty", "value": plain["location"]}
    assert entity["dateObserved"]["value"] == {"@type": "DateTime", "@value": plain["dateObserved"]}
    assert entity["@context"][-1] == "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld"


def test_a_meter_for_gas_and_water_is_two_entities_that_say_which(sql, measured):
    """One attribute for both: in one entity the second would take the place of the first."""
    stream = measured("gas_volume_total", [(0, 5.0)], device="m", channel="c")
    measured("water_volume_total", [(0, 7.0)], device="m", channel="c")
    found = entities(sql, stream)
    city = found[0][1]["id"].split(":")[3]
    assert sorted((plain["id"], plain["meterType"], plain["totalConsumption"]) for _, plain, _ in found) == [
        (f"urn:ngsi-ld:SmartMeteringObservation:{city}:m:c:gas_volume_total", "Gas", 5),
        (f"urn:ngsi-ld:SmartMeteringObservation:{city}:m:c:water_volume_total", "Water", 7),
    ]
    assert all("location" not in plain and "location" not in entity for _, plain, entity in found)
    assert {entity["meterType"]["value"] for _, _, entity in found} == {"Gas", "Water"}
    assert all(entity["totalConsumption"]["unitCode"] == "MTQ" for _, _, entity in found)


def test_a_count_tells_its_period_where_the_interval_is_known(sql, measured):
    stream = measured("vehicle_count", [(0, 31.0)], device="k", parameters={"interval_s": 300}, **LOCATION)
    measured("vehicle_count", [(0, 31.0)], device="u", **LOCATION)
    (_, known, entity), (_, unknown, _) = entities(sql, stream)
    assert (known["dateObservedFrom"], known["dateObservedTo"]) == (
        "2026-11-22T23:55:00.000000Z",
        known["dateObserved"],
    )
    assert (known["intensity"], entity["intensity"]["unitCode"]) == (31, "C62")
    assert entity["@context"][0].endswith("/dataModel.Transportation/master/context.jsonld")
    assert known.keys() - unknown.keys() == {"dateObservedFrom", "dateObservedTo"}


@pytest.mark.parametrize(
    ("prop", "value", "given", "why"),
    [
        ("relative_humidity", 101.0, LOCATION, "1.01 is above the model's maximum 1"),
        ("uv_index", 0.5, LOCATION, "0.5 is below the model's minimum 1"),
        ("air_temperature", 5.0, {}, "the model requires a location, and the datastream has none"),
        (
            "noise_laeq",
            50.0,
            LOCATION,
            "the model requires the interval measured, and parameters.interval_s is not known",
        ),
        ("precipitation_total", 5.0, LOCATION, "no Smart Data Model has an attribute for it"),
        ("pedestrian_count", 2.5, LOCATION, "2.5 is no whole number, and the model wants one"),
        ("parking_spots_total", 0.0, LOCATION, "0 is below the model's minimum 1"),
        ("water_flow_rate", -3.0, LOCATION, "-3 is below the model's minimum 0"),
        (
            "pv_power",
            5.0,
            {},
            "the published model requires refPhotovoltaicDevice, dateEnergyMeteringStarted and temperature",
        ),
    ],
)
def test_what_a_model_can_not_say_is_left_out_and_listed_never_clipped(sql, measured, prop, value, given, why):
    stream = measured(prop, [(0, value)], **given)
    assert sql("select value, reason from hanse.ngsi_ld_unexpressed where datastream_id = %s", (stream,)) == [
        (value, why)
    ]
    assert entities(sql, stream) == []


def test_a_sensorthings_observation_is_valid_and_complete(sql, measured):
    stream = measured("air_temperature", [(0, 7.25), (1, None, 9)], device='w"1', parameters={"height": 2})
    query = "select observation from hanse.sensorthings_observations where datastream_id = %s order by phenomenon_time"
    found = [row[0] for row in sql(query, (stream,))]
    for one in found:
        assert not list(validator("sensorthings-observation").iter_errors(one))
        assert one.keys() >= {"phenomenonTime", "resultTime", "result", "Datastream"}
        assert one["Datastream"].keys() >= {"name", "description", "observationType", "unitOfMeasurement"}
        assert one["Datastream"]["unitOfMeasurement"].keys() == {"name", "symbol", "definition"}
    assert [(one["phenomenonTime"], one["result"], one["resultQuality"]) for one in found] == [
        ("2026-11-23T00:00:00.000000Z", 7.25, "good"), ("2026-11-23T01:00:00.000000Z", None, "missing"),
    ]  # fmt: skip


def test_dead_letters_are_shown_without_their_messages(sql, measured):
    measured("air_temperature", [])
    assert "payload" not in [
        line.split(".")[1].split(" ")[0] for line in shape(sql) if line.startswith("dead_letters.")
    ]
