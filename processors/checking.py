"""`hanse-processor check`: everything wrong with city files and profiles that can be known without a server.

A fault names place, value and cure. A note is worth a look and fails nothing.
"""

import json
import math
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ingest.city import City, CityFileError, Route, load
from processors import routes, stations
from processors.dialects import DIALECTS
from processors.explaining import Explained, Explainer, Told
from processors.filters import covers, left_over, meet
from processors.matching import Matcher, Profiles
from processors.profiles import Example, Profile, ProfileError, SharedProfile, of_city
from processors.profiles import load as load_shared
from processors.secrets import masked_topic
from processors.standard.observation import Reason
from processors.standard.times import parse
from processors.standard.vocabulary import VOCABULARY

DEVICE = "example"
EUI = "0101010101010101"
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
TOLERANCE = 1e-9


class Finding(NamedTuple):
    """Something found; `fault` False is a note."""

    text: str
    fault: bool = True


def check(paths: Sequence[Path], folder: Path) -> list[Finding]:
    """Every finding in city files, the shared profiles of a folder and the cities' own."""
    found: list[Finding] = []
    try:
        shared = load_shared(folder)
    except ProfileError as error:
        found += [Finding(line) for line in str(error).splitlines()]
        shared = {}
    found += map(Finding, faults_of_profiles(shared.values()))
    keys: dict[str, Path] = {}
    for path in paths:
        try:
            city = load(path)
        except CityFileError as error:
            found += [Finding(line) for line in str(error).splitlines()]
            continue
        if city.key in keys:
            found.append(Finding(f"{path}: city.key = {city.key!r}: {keys[city.key]} has it already; name another"))
        keys[city.key] = path
        found += [one._replace(text=f"{path}: {one.text}") for one in of_one_city(city, Profiles(shared))]
    return found


def of_one_city(city: City, profiles: Profiles) -> Iterator[Finding]:
    """Findings in one city's file."""
    broken = routes.faults(city, DIALECTS)
    yield from map(Finding, broken)
    yield from _routes(city)
    yield from map(Finding, stations.faults(city))
    yield from map(Finding, _devices(city))
    yield from map(Finding, _secrets(city))
    try:
        own = of_city(city, profiles.shared)
    except ProfileError as error:
        yield from map(Finding, str(error).splitlines())
        return
    if not broken and any(profile.example for profile in own):
        explainer = Explainer([city], profiles=profiles._replace(cities={city.key: own}))
        for number, profile in enumerate(own, start=1):
            for text in _examples(profile, explainer):
                yield Finding(f"profile[{number}].{text}")


def faults_of_profiles(profiles: Iterable[SharedProfile]) -> Iterator[str]:
    """Shared profiles whose examples fail, or that share a model with another."""
    known = {profile.name: profile for profile in profiles}
    explainer = Explainer(profiles=Profiles(known))
    matcher = Matcher(Profiles(known), "")
    for profile in known.values():
        for model in filter(_exact, profile.match):
            others = [name for name in matcher.rivals(model) if name != profile.name]
            if others:
                yield f"profile {profile.name!r}: match = {model!r}: {', '.join(others)} names it as exactly"
        for text in _examples(profile, explainer):
            yield f"profile {profile.name!r}: {text}"


def _exact(pattern: str) -> bool:
    return not set(pattern) & set("*?[")


def _examples(profile: Profile, explainer: Explainer) -> Iterator[str]:
    for number, example in enumerate(profile.example, start=1):
        for text in _failures(profile, example, explainer):
            yield f"example[{number}]: {text}"


def _failures(profile: Profile, example: Example, explainer: Explainer) -> Iterator[str]:
    received = parse(example.received_at)
    if isinstance(received, Reason):
        yield f"received_at = {example.received_at!r}: no RFC 3339 time with a zone"
        return
    if example.topic is not None and example.payload is not None:
        topic, payload = example.topic, example.payload.encode()
    else:
        model = example.model or next(filter(_exact, profile.match), "")
        if not model and profile.match:
            yield "name its model: no pattern of 'match' is without wildcard"
            return
        try:
            decoded = json.loads(example.decoded or "")
        except ValueError as error:
            yield f"decoded: no JSON: {error}"
            return
        topic, payload = uplink(model, decoded, example.received_at, profile.devices)
    (found,) = explainer.explain([Told(topic, payload, received // 1000)])
    if example.dialect is not None and found.dialect != example.dialect:
        yield f"topic = {topic!r}: dialect {found.dialect or 'none'} takes it, not {example.dialect}"
        return
    yield from _differences(profile, example, found)


def uplink(model: str, decoded: object, received_at: str, devices: Sequence[str] = ()) -> tuple[str, bytes]:
    """Topic and payload by which a decoder's output travels: The Things Stack's, or ChirpStack's for a bare model."""
    if "/" in model or not model:
        device = next(filter(_exact, devices), DEVICE)
        brand, _, name = model.partition("/")
        inside = {"version_ids": {"brand_id": brand, "model_id": name}, "decoded_payload": decoded}
        told = {"end_device_ids": {"device_id": device}, "received_at": received_at, "uplink_message": inside}
        return f"v3/example/devices/{device}/up", json.dumps(told).encode()
    info = {"devEui": EUI, "deviceProfileName": model}
    event = {"time": received_at, "deviceInfo": info, "object": decoded}
    return f"application/example/device/{EUI}/event/up", json.dumps(event).encode()


def _differences(profile: Profile, example: Example, found: Explained) -> Iterator[str]:
    """What an example gives besides what it should, and what it does not give."""
    if found.ignored is not None:
        yield f"the whole message is ignored: {found.ignored}"
        return
    missing = list(example.observations)
    names = (profile.name, getattr(profile, "use", None))
    for row in found.rows:
        observed, channel = row.meaning.observed.key, row.meaning.channel
        told = f"{row.leaf.key} gives {observed} {row.value} {row.meaning.observed.unit}"
        told += f" (channel {channel!r})" if channel else ""
        for expected in missing:
            time = parse(expected.time) if expected.time else row.time
            same = (expected.property, expected.channel, time) == (observed, channel, row.time)
            if same and _equal(expected.value, row.value):
                missing.remove(expected)
                break
        else:
            yield f"{told}, which is not expected"
        layer = row.meaning.layer.removeprefix("profile ")
        if row.meaning.layer.startswith("profile ") and profile.name and layer not in names:
            yield f"{told}, but by profile {layer!r}: it names the model more exactly"
    for expected in missing:
        value = "null" if expected.value is None else expected.value
        yield f"{expected.property} {value} (channel {expected.channel!r}) is expected, and nothing gives it"
    unmapped = {letter.raw_key for letter, _ in found.letters if letter.reason == Reason.UNMAPPED_PROPERTY}
    for letter, _ in found.letters:
        if letter.reason != Reason.UNMAPPED_PROPERTY or letter.raw_key not in example.unmapped:
            yield f"{letter.raw_key or 'the message'} is rejected: {letter.reason}: {letter.detail}"
    for key in example.unmapped:
        if key not in unmapped:
            yield f"unmapped = {key!r}: it is none"


def _equal(expected: float | None, found: float | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return math.isclose(expected, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _routes(city: City) -> Iterator[Finding]:
    """Routes that never take anything, and those that share topics with an earlier one of another dialect."""
    for place, route in enumerate(city.route):
        where = f"route[{place + 1}].filter = {route.filter!r}"
        earlier = list(enumerate(city.route[:place], start=1))
        first = next((n for n, one in earlier if covers(one.filter, route.filter)), None)
        if first is not None:
            yield Finding(f"{where}: route[{first}] takes all of it before; move it up or remove it")
            continue
        if left_over(route.filter, [one.filter for _, one in earlier]) is None:
            several = ", ".join(f"route[{n}]" for n, one in earlier if meet(one.filter, route.filter))
            yield Finding(f"{where}: {several} together take all of it before; move it up or remove it")
            continue
        yield from (
            Finding(f"{where}: shares topics with route[{n}] ({one.filter!r}), which takes them first", fault=False)
            for n, one in earlier
            if _rivals(one, route)
        )
        if city.mqtt.subscribe and not any(meet(one, route.filter) for one in city.mqtt.subscribe):
            yield Finding(f"{where}: no filter of mqtt.subscribe brings its topics; add one")


def _rivals(one: Route, other: Route) -> bool:
    return one.dialect != other.dialect and meet(one.filter, other.filter) and not covers(other.filter, one.filter)


def _devices(city: City) -> Iterator[str]:
    for place, device in enumerate(city.device, start=1):
        for key, (low, high) in device.range.items():
            if (observed := VOCABULARY.get(key)) and (high < observed.minimum or low > observed.maximum):
                gross = f"{observed.minimum:g} to {observed.maximum:g} {observed.unit}"
                yield f"device[{place}].range.{key} = [{low:g}, {high:g}]: outside the gross range {gross}; which unit?"


def _secrets(city: City) -> Iterator[str]:
    """Files with secrets that others may read, and secrets in the file itself."""
    for kind in ("key_file", "password_file"):
        path: Path | None = getattr(city.mqtt, kind)
        if path is not None and (mode := stat.S_IMODE(path.stat().st_mode)) & OPEN_TO_OTHERS:
            yield f"mqtt.{kind} = {str(path)!r}: others may read it (mode {mode:04o}); chmod 600"
    for place, route in enumerate(city.route, start=1):
        hidden = masked_topic(route.filter)
        if hidden != route.filter and "+" not in {level for level in route.filter.split("/")[1:3] if level}:
            yield f"route[{place}].filter = {hidden!r}: an API key in the file; write + in its place"
