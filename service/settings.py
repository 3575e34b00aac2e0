"""A wrong setting in one line: its name, its value and what would be right."""

from collections.abc import Iterator

from pydantic import ValidationError

SECRET = ("password", "dsn")


def faults(error: ValidationError, prefix: str = "HANSE_") -> Iterator[str]:
    """One sentence for each wrong setting of a pydantic-settings model; never a secret's value."""
    for fault in error.errors():
        name = prefix + "".join(str(part) for part in fault["loc"]).upper()
        told = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            yield told
        elif fault["type"] == "missing":
            yield f"{name} is required"
        elif any(word in name.lower() for word in SECRET):
            yield f"{name}: {told}"
        else:
            yield f"{name} = {str(fault['input'])!r:.80}: {told}"
