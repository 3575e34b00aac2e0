"""What the dialects' tables fix must be in the vocabulary, in units that convert to the property's own."""

import pytest

from processors.dialects import DIALECTS, ecowitt, iot_agent_json, pegelonline, senml, sensor_community, tasmota, ttn
from processors.dialects import weewx as weewx_part
from processors.standard import units
from processors.standard.spellings import UNITS
from processors.standard.vocabulary import VOCABULARY

FIXED = {
    "ttn": ttn.FIELDS.values(),
    "tasmota": [*tasmota.ENERGY.values(), *tasmota.ANYWHERE.values()],
    "sensor_community": sensor_community.MEANINGS.values(),
    "ecowitt": [*[found[:2] for found in ecowitt.FIELDS.values()], *ecowitt.NUMBERED.values()],
    "senml": senml.MEANINGS.values(),
    "weewx": [(name, unit) for name, row, _ in weewx_part.OBSERVATIONS.values() for unit in row if unit],
}
PAIRS = sorted({(d, name, unit) for d, rows in FIXED.items() for name, unit in rows if name is not None})


@pytest.mark.parametrize(("dialect", "name", "unit"), PAIRS)
def test_a_fixed_unit_converts_to_its_property(dialect, name, unit):
    assert isinstance(units.conversion(unit, VOCABULARY[name]), units.Affine)


@pytest.mark.parametrize("name", sorted({*pegelonline.PARAMETERS.values(), *iot_agent_json.MODELS.values()}))
def test_a_property_whose_unit_comes_with_it_is_in_the_vocabulary(name):
    assert name in VOCABULARY


@pytest.mark.parametrize("unit", sorted({*iot_agent_json.UNIT_CODES.values(), *weewx_part.LABELS.values()}))
def test_codes_and_labels_stand_for_ucum(unit):
    assert unit in UNITS


@pytest.mark.parametrize(
    "module", [ecowitt, iot_agent_json, pegelonline, senml, sensor_community, tasmota], ids=lambda m: m.__name__
)
def test_a_module_says_which_topics_are_its_own(module):
    assert isinstance(module.FILTERS, tuple)
    assert module.__name__.rpartition(".")[2] in DIALECTS
    for topic_filter in module.FILTERS:
        levels = topic_filter.split("/")
        assert "#" not in levels[:-1]
        assert all(level in {"+", "#"} or not {"+", "#"} & set(level) for level in levels)
