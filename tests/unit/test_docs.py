"""What a reader does with the documentation: follow its links, paste its SQL, look for the tests it names."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
BEGINS = re.compile(r"(select|create|alter|analyze|insert|update|delete|set)\b")
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=str)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub and Forgejo make it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_a_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@EVERY_PAGE
def test_sql_can_be_pasted(page):
    """One that lacks its end runs into the next."""
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL):
        assert block.endswith(";\n"), block
        lines = block.splitlines()
        begun = [one for before, one in pairwise(lines) if BEGINS.match(one) and not before.endswith(";")]
        assert begun == []


def test_every_test_that_is_named_is_there():
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", prose(page))}
    assert named
    defined = subprocess.run(
        ["git", "grep", "-ohE", r"def test_\w+", "--", "tests"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert named <= {line.removeprefix("def ") for line in defined.stdout.splitlines()}
