"""What a city's Kafka topic must be: its settings, what is wrong with one, and what to think of. Pure."""

from datetime import timedelta

LONG_MAX = 2**63 - 1
FOR_EVER = LONG_MAX  # how long a topic keeps records whose retention is -1
# What create-topic sets, and retention.ms by HANSE_KAFKA_RETENTION. "same": another value is wrong; "least": a larger
# one is fine.
TOPIC_SETTINGS = {
    "cleanup.policy": ("same", "delete"),
    "message.timestamp.type": ("same", "CreateTime"),
    "retention.bytes": ("same", "-1"),  # a limit of size would cut the retention short without a word
    "max.message.bytes": ("least", str(2 * 1024 * 1024)),
    "message.timestamp.after.max.ms": ("least", str(LONG_MAX)),
}


def topic_settings(retention: timedelta) -> dict[str, str]:
    """What create-topic sets; `retention`: how long records must be kept."""
    return {name: value for name, (_, value) in TOPIC_SETTINGS.items()} | {"retention.ms": str(_ms(retention))}


def topic_faults(
    partitions: int | None, settings: dict[str, str] | None, wanted: int, retention: timedelta
) -> list[str]:
    """What is wrong with a city's topic, each with the cure; `settings` None: we may not read them.

    `retention` is what the settings promise: a processor that is away for as long still finds every record (rule 20).
    """
    if partitions is None:
        return ["does not exist; make it with hanse-gateway create-topic"]
    faults = []
    if partitions != wanted:
        faults.append(
            f"has {partitions} partitions, HANSE_KAFKA_PARTITIONS says {wanted}; set it to {partitions}, "
            "or grow the topic by the documented procedure"
        )
    for name, (how, value) in TOPIC_SETTINGS.items():
        found = value if settings is None else settings.get(name, value)
        enough = found == value or (how == "least" and int(found) >= int(value))
        if not enough:
            faults.append(f"has {name} = {found}; set it to {value}")
    kept = _kept_ms(settings)
    if kept is not None and kept < _ms(retention):
        faults.append(
            f"has retention.ms = {kept}, HANSE_KAFKA_RETENTION promises {_iso(retention)}; set it to {_ms(retention)}, "
            "or promise less"
        )
    return faults


def topic_warnings(settings: dict[str, str] | None, retention: timedelta) -> list[str]:
    """What is right with a city's topic, and still wants a change elsewhere."""
    kept = _kept_ms(settings)
    if kept is None or kept <= _ms(retention):
        return []
    longer = "without end" if kept == FOR_EVER else _iso(timedelta(milliseconds=kept))
    said = (
        f"keeps records longer ({longer}) than HANSE_KAFKA_RETENTION says ({_iso(retention)}): raise that, for "
        "hanse-storage maintain too, or a backlog may be older than the readings that it keeps (HANSE_RAW_RETENTION)"
    )
    return [said]


def _kept_ms(settings: dict[str, str] | None) -> int | None:
    """How long a topic keeps records; None where it is not known."""
    told = None if settings is None else settings.get("retention.ms")
    return None if told is None else FOR_EVER if int(told) == -1 else int(told)


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _iso(duration: timedelta) -> str:
    days = duration / timedelta(days=1)
    return f"P{days:.0f}D" if days >= 1 and days.is_integer() else f"PT{duration.total_seconds() / 3600:g}H"
