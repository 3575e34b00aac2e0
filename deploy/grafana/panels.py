"""What the dashboards show: their panels, each with its queries. build.py writes them as Grafana takes them."""

from typing import Any

from grafana.panel import PROMETHEUS, TIMESCALE, Panel


def variable(definition: str, *, sql: bool) -> dict[str, Any]:
    """The drop-down list of cities."""
    return {
        "name": "city",
        "label": "City",
        "type": "query",
        "datasource": TIMESCALE if sql else PROMETHEUS,
        "query": definition,
        "definition": definition,
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": False,
    }


CITY = variable("label_values(hanse_gateway_connected, city)", sql=False)
CITY_VIEW = variable("select distinct city from hanse.ledger order by city", sql=True)

OVERVIEW = (
    Panel(
        "Lost, by city and place",
        "Empty: nothing. Records unaccounted for, sessions lost, messages dropped, within a day.",
        (("sum by (city, where) (city:hanse_loss:count1d)", "{{city}} {{where}}"),),
        kind="bargauge",
        bad_above=1,
    ),
    Panel(
        "State of the cities",
        "1: silent, or the broker is away.",
        (("max by (city) (hanse_gateway_silent == 1 or 1 - hanse_gateway_connected)", "{{city}}"),),
        kind="stat",
        bad_above=1,
    ),
    Panel(
        "Age of the newest row",
        "Since the newest stored row was received.",
        (("time() - max by (city) (hanse_processor_newest_row_timestamp_seconds)", "{{city}}"),),
        unit="s",
        kind="stat",
        bad_above=600,
    ),
    Panel(
        "How full each stage is",
        "0 idle, 1 at its limit or away: the largest is the bottleneck.",
        (("stage:hanse_saturation:ratio", "{{stage}}"),),
        unit="percentunit",
    ),
    Panel(
        "Messages a second",
        "As received by the gateways.",
        (("sum by (city) (rate(hanse_gateway_messages_received_total[$__rate_interval]))", "{{city}}"),),
        unit="ops",
    ),
    Panel(
        "Behind",
        "How long the oldest record has waited for the database.",
        (("max by (city) (hanse_processor_lag_seconds)", "{{city}}"),),
        unit="s",
    ),
    Panel(
        "Rejected, share of what comes",
        "Kept as dead letters.",
        (("city:hanse_rejections:ratio_rate10m", "{{city}}"),),
        unit="percentunit",
    ),
    Panel(
        "Sensors' clocks that are off, share",
        "Readings more than a minute ahead of their receipt, or more than a quarter of an hour behind.",
        (("city:hanse_sensor_clocks_off:ratio_rate15m", "{{city}} {{side}}"),),
        unit="percentunit",
    ),
    Panel(
        "Overdue sensors, share",
        "Silent beyond three times their own usual interval.",
        (("max by (city) (hanse_datastreams_overdue / (hanse_datastreams > 0))", "{{city}}"),),
        unit="percentunit",
    ),
)
ONE_CITY = (
    Panel(
        "Received, in Kafka, acknowledged",
        "In step; received ahead of the others: Kafka is slow or away.",
        tuple(
            (f'sum(rate(hanse_gateway_messages_{what}_total{{city="$city"}}[$__rate_interval]))', what)
            for what in ("received", "forwarded", "acknowledged")
        ),
        unit="ops",
    ),
    Panel(
        "Readings, by what became of them",
        "stored standing still while messages come is an outage.",
        (
            (
                'sum by (outcome) (rate(hanse_processor_readings_total{city="$city"}[$__rate_interval]))',
                "{{outcome}}",
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Connection",
        "1 while connected; silent: connected without a message for limits.silent_after.",
        (
            ('max(hanse_gateway_connected{city="$city"})', "connected"),
            ('max(hanse_gateway_silent{city="$city"})', "silent"),
            ('max(hanse_gateway_kafka_connected{city="$city"})', "Kafka takes writes"),
        ),
    ),
    Panel(
        "Since the last message",
        "Against the interval after which the city counts as silent.",
        (
            ('time() - max(hanse_gateway_last_message_timestamp_seconds{city="$city"})', "last message"),
            ('max(hanse_gateway_silent_after_seconds{city="$city"})', "silent after"),
        ),
        unit="s",
    ),
    Panel(
        "Rejected a minute, by reason",
        "hanse-processor explain says of a topic and payload what is wrong with it.",
        (
            (
                '60 * sum by (reason) (rate(hanse_processor_rejections_total{city="$city"}[$__rate_interval])) > 0',
                "{{reason}}",
            ),
        ),
    ),
    Panel(
        "Waiting for the database",
        "Kafka records not yet committed.",
        (('sum(hanse_processor_lag_records{city="$city"})', "records"),),
    ),
    Panel(
        "Clocks of the sensors",
        "A reading's own time minus its receipt. Above 0: a clock is ahead; far below: behind, or delivered late.",
        tuple(
            (
                (
                    f"histogram_quantile({share}, sum by (le) "
                    '(rate(hanse_processor_clock_skew_seconds_bucket{city="$city"}[$__rate_interval])))'
                ),
                name,
            )
            for share, name in ((0.05, "p5"), (0.5, "median"), (0.95, "p95"))
        ),
        unit="s",
    ),
    Panel(
        "Clock of the gateway",
        "Minus Kafka's; beyond 60 s the gateway is not ready.",
        (('max(hanse_gateway_clock_skew_seconds{city="$city"})', "skew"),),
        unit="s",
    ),
    Panel(
        "Losses before Kafka",
        "In the range shown.",
        (
            ('sum(increase(hanse_gateway_sessions_lost_total{city="$city"}[$__range]))', "sessions lost"),
            ('sum(increase(hanse_gateway_messages_dropped_total{city="$city"}[$__range]))', "QoS 0 dropped"),
            ('sum(increase(hanse_gateway_broker_messages_dropped_total{city="$city"}[$__range]))', "broker dropped"),
        ),
        kind="stat",
        bad_above=1,
    ),
)


def quantiles(name: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """p50 and p99 of a histogram."""
    return tuple(
        (f"histogram_quantile({share}, sum by (le{by}) (rate({name}_bucket[$__rate_interval])))", f"p{share * 100:.0f}")
        for share in (0.5, 0.99)
    )


INTERNALS = (
    Panel(
        "From receipt to visible in SQL",
        "Readings stored or repeated.",
        quantiles("hanse_end_to_end_latency_seconds"),
        unit="s",
    ),
    Panel("Kafka: a batch until acknowledged", "", quantiles("hanse_gateway_produce_seconds"), unit="s"),
    Panel("Database: a transaction", "Committed ones.", quantiles("hanse_storage_commit_seconds"), unit="s"),
    Panel(
        "Database: parts of a transaction",
        "The part that rises is the one that waits.",
        (("sum by (phase) (rate(hanse_storage_phase_seconds_total[$__rate_interval]))", "{{phase}}"),),
        unit="percentunit",
    ),
    Panel(
        "Rows, by path",
        "merge costs three times as much: late or repeated readings.",
        (("sum by (path) (rate(hanse_storage_copied_rows_total[$__rate_interval]))", "{{path}}"),),
        unit="ops",
    ),
    Panel(
        "Given up and done again",
        "Batches of the processors, by cause.",
        (
            ("sum by (cause) (rate(hanse_processor_rollbacks_total[$__rate_interval]))", "processor: {{cause}}"),
            ("sum by (cause) (rate(hanse_storage_rollbacks_total[$__rate_interval]))", "database: {{cause}}"),
        ),
        unit="ops",
    ),
    Panel(
        "In flight, share of the bound",
        "At 1 the gateway stops reading.",
        (
            (
                "max by (city) (hanse_gateway_messages_in_flight / hanse_gateway_messages_in_flight_limit)",
                "{{city}}",
            ),
        ),
        unit="percentunit",
    ),
    Panel(
        "CPU",
        "1: one core, the most that a process takes.",
        (
            (
                'rate(process_cpu_seconds_total{job=~"hanse-.*"}[$__rate_interval])',
                "{{job}} {{instance}}",
            ),
        ),
        unit="percentunit",
    ),
    Panel(
        "Memory",
        "Resident.",
        (('process_resident_memory_bytes{job=~"hanse-.*"}', "{{job}} {{instance}}"),),
        unit="bytes",
    ),
    Panel(
        "Hours summed up, age of the newest",
        "Up to two hours is as it should be; beyond it the views compute more and more themselves.",
        (("max(hanse_storage_rollup_lag_seconds)", "newest hour"),),
        unit="s",
    ),
    Panel(
        "Hours to be summed up again",
        "Late readings fell into them.",
        (("max(hanse_storage_rollup_dirty_hours)", "hours"),),
    ),
    Panel(
        "Since maintenance last ended without a failure",
        "A cycle is due every 15 s.",
        (("time() - max(hanse_storage_maintain_success_timestamp_seconds)", "last"),),
        unit="s",
    ),
    Panel(
        "Maintenance: done and failed",
        "Steps in the range shown.",
        (
            ("sum by (what) (increase(hanse_storage_maintain_done_total[$__range]))", "{{what}}"),
            ("sum by (step) (increase(hanse_storage_maintain_failures_total[$__range])) > 0", "failed: {{step}}"),
        ),
        kind="stat",
        may_be_empty=True,
    ),
    Panel(
        "Partitions by processor",
        "Together as many as there are.",
        (("hanse_processor_partitions", "{{instance}}"),),
    ),
    Panel(
        "Versions",
        "",
        (("count by (component, version) (hanse_build_info)", "{{component}} {{version}}"),),
        kind="table",
    ),
    Panel(
        "Alerts that fire",
        "Empty: none.",
        (('ALERTS{alertstate="firing"}', "{{alertname}} {{city}}"),),
        kind="table",
        may_be_empty=True,
    ),
)
DEAD_LETTERS = (
    Panel(
        "Open, by city and reason",
        "Counted up to 10,000 each.",
        (("sort_desc(sum by (city, reason) (hanse_dead_letters_open))", "{{city}} {{reason}}"),),
        kind="table",
        width=24,
    ),
    Panel(
        "New ones a minute, by reason",
        "",
        (("60 * sum by (reason) (rate(hanse_processor_rejections_total[$__rate_interval])) > 0", "{{reason}}"),),
    ),
    Panel(
        "New ones a minute, by city",
        "",
        (("60 * sum by (city) (rate(hanse_processor_rejections_total[$__rate_interval]))", "{{city}}"),),
    ),
    Panel(
        "What the open ones weigh",
        "Beyond limits.dead_letter_bytes the city is paused.",
        (("max by (city) (hanse_dead_letters_open_bytes)", "{{city}}"),),
        unit="bytes",
    ),
    Panel(
        "Paused cities",
        "1: waits until letters are purged, replayed or allowed more bytes.",
        (("max by (city) (hanse_processor_city_paused)", "{{city}}"),),
        kind="stat",
        bad_above=1,
    ),
)


def series(properties: str, aggregate: str = "avg(value)", name: str = "city") -> tuple[tuple[str, str], ...]:
    """A property over time, of readings that passed."""
    return (
        (
            (
                # Not time_bucket: readers have no rights on the schema that TimescaleDB's functions are in.
                f"select date_bin('$__interval', phenomenon_time, 'epoch') as time, {name} as metric, "  # noqa: S608  (our own constants)
                f"{aggregate} as value from hanse.observations where property = '{properties}' and quality in (1, 2) "
                "and $__timeFilter(phenomenon_time) group by 1, 2 order by 1"
            ),
            "time_series",
        ),
    )


CITIZENS = (
    Panel("Air temperature", "Mean of the city's stations.", series("air_temperature"), unit="celsius", sql=True),
    Panel(
        "Water levels", "Gauges, above their own zero.", series("water_level", name="device"), unit="lengthm", sql=True
    ),
    Panel(
        "Gusts",
        "The strongest of the city's stations.",
        series("wind_speed_gust", "max(value)"),
        "velocityms",
        sql=True,
    ),
    Panel("Relative humidity", "Mean.", series("relative_humidity"), unit="percent", sql=True),
    Panel("Precipitation", "Sum a station, mean of the stations.", series("precipitation"), unit="lengthmm", sql=True),
    Panel("Solar irradiance", "Mean.", series("solar_irradiance"), unit="Wm2", sql=True),
    Panel("Photovoltaic power", "Mean of the plants.", series("pv_power"), unit="watt", sql=True),
    Panel("Electric power", "Mean of the meters.", series("electric_active_power"), unit="watt", sql=True),
    Panel("Heat power", "Mean of the meters.", series("heat_power"), unit="kwatt", sql=True),
    Panel("Vehicles", "Counted, sum over the lanes.", series("vehicle_count", "sum(value)"), sql=True),
    Panel("Speed", "Mean of the lanes.", series("vehicle_speed_mean"), unit="velocitykmh", sql=True),
    Panel(
        "Now in $city",
        "The newest reading of each datastream, in the alliance's units.",
        (
            (
                (
                    "select property, unit, device, channel, round(value::numeric, 2) as value, quality, "
                    "phenomenon_time "
                    "from hanse.latest where city = '$city' order by property, device, channel limit 500"
                ),
                "table",
            ),
        ),
        kind="table",
        width=24,
        sql=True,
    ),
)
DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...], dict[str, Any] | None]] = {
    "alliance": ("Alliance overview", OVERVIEW, None),
    "city": ("One city", ONE_CITY, CITY),
    "internals": ("Pipeline internals", INTERNALS, None),
    "dead-letters": ("Dead letters", DEAD_LETTERS, None),
    "citizens": ("Citizens' data", CITIZENS, CITY_VIEW),
}
