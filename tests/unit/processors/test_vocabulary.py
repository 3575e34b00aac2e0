import pytest

from processors.standard.vocabulary import VOCABULARY, load

HEADER = (
    "property,domain,ucum,kind,min,max,sdm_type,sdm_attribute,sdm_factor,cf_standard_name,qudt_quantitykind,obis,notes"
)
ROW = "air_temperature,weather,Cel,gauge,-45,50,WeatherObserved,temperature,1,air_temperature,CelsiusTemperature,,"


def test_the_packaged_vocabulary_has_114_properties():
    assert len(VOCABULARY) == 114


def test_a_property_named_no_is_nitrogen_monoxide_and_not_false():
    assert VOCABULARY["no"].unit == "ug/m3"


def test_a_row_keeps_all_its_columns():
    humidity = VOCABULARY["relative_humidity"]
    assert (humidity.domain, humidity.unit, humidity.kind) == ("weather", "%", "gauge")
    assert (humidity.minimum, humidity.maximum, humidity.suspect_above) == (0.0, 105.0, 100.0)
    assert (humidity.sdm_type, humidity.sdm_attribute, humidity.sdm_factor) == (
        "WeatherObserved",
        "relativeHumidity",
        0.01,
    )
    assert VOCABULARY["electric_energy_import"].obis == "1-0:1.8.0"


@pytest.mark.parametrize(
    ("key", "aggregation"),
    [
        ("noise_laeq", "energy"),
        ("noise_lamax", "max"),
        ("wind_direction", "direction"),
        ("wind_speed", "mean"),
        ("air_temperature", "mean"),
        ("precipitation", "sum"),
        ("electric_energy_import", "counter"),
        ("parking_spot_occupied", "state"),
    ],
)
def test_an_hour_is_summed_up_as_the_property_demands(key, aggregation):
    assert VOCABULARY[key].aggregation == aggregation


def test_the_vocabulary_cannot_be_changed_by_who_reads_it():
    with pytest.raises(TypeError):
        VOCABULARY["air_temperature"] = None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (ROW.replace("gauge", "guage"), "kind 'guage'"),
        (ROW.replace("-45,50", "50,50"), "minimum 50.0 is not below maximum 50.0"),
        (ROW.replace("-45,50", "nan,50"), "minimum nan"),
        (ROW.replace("Cel", ""), "key, domain and unit are required"),
        (ROW.split(",gauge", maxsplit=1)[0], "column missing"),
        (f"{ROW}\n{ROW}", "'air_temperature' appears twice"),
    ],
)
def test_a_faulty_table_is_refused_with_the_row_that_is_wrong(row, complaint):
    with pytest.raises(ValueError, match=complaint):
        load(f"{HEADER}\n{row}\n")
