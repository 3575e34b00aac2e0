"""A machine without Chromium never passes in silence."""

import pytest

from tests.browser import required


@pytest.fixture(autouse=True)
def _nothing_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_chromium_a_test_that_needs_it_fails_in_ci_with_the_cure(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        required()


def test_elsewhere_it_is_skipped_with_the_cure(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install chromium"):
        required()


def test_chromium_is_found_by_any_of_its_names(tmp_path):
    there = tmp_path / "chromium-browser"
    there.touch(mode=0o755)
    assert required() == str(there)
