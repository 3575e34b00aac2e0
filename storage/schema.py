"""Which versions of the schema this code works with (rule 25). Applying them is migrate's business.

Changes to the schema expand first and contract later, so two versions of the code may run side by side: a migration
names the oldest code that works with it, and only older code is refused.
"""

# Raised with every change of the code that a later migration may rely on.
CODE_LEVEL = 1
# The last migration that this code can't do without.
NEEDED = 9

STATE_OF_SCHEMA = "select max(version), max(oldest_code) from store.schema_migration"


def fault_of_schema(version: int | None, oldest_code: int | None) -> str | None:
    """What keeps this code from working with the schema found, and the cure; None where it can."""
    if version is None or oldest_code is None:
        return "the schema is missing; run `hanse-storage migrate`"
    if version < NEEDED:
        return f"the schema is at migration {version}, this code needs {NEEDED}; run `hanse-storage migrate`"
    if oldest_code > CODE_LEVEL:
        return f"the schema needs code level {oldest_code} or newer, this code is {CODE_LEVEL}; upgrade this program"
    return None
