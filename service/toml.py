"""A file of settings, read."""

import tomllib
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """What a TOML file holds; a byte order mark, as Windows editors write it, is no fault.

    Raises OSError, and ValueError with one line that says why it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not TOML: {error}") from error
    except RecursionError:
        raise ValueError("not TOML that can be read: nested too deeply") from None
