"""The host's own mirror, from both formats of apt's sources."""

from pathlib import Path

import pytest
from local import debian

BOOKWORM = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
DEB822 = """# the security archive is no mirror of the release
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
# a comment inside
URIs: http://first.example/debian
  http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def host(folder: Path, *, release: str = BOOKWORM, lists: str = "", sources: str = "") -> tuple[Path, Path]:
    (folder / "sources.list.d").mkdir()
    (folder / "sources.list").write_text(lists)
    (folder / "sources.list.d/debian.sources").write_text(sources)
    (folder / "os-release").write_text(release)
    return folder, folder / "os-release"


def test_the_mirror_is_found_in_deb822_sources(tmp_path: Path) -> None:
    assert debian.mirror(*host(tmp_path, sources=DEB822)) == "http://first.example/debian"


def test_the_mirror_is_found_in_one_line_sources_with_options(tmp_path: Path) -> None:
    lists = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb http://other.example/apt stable-thing main\n"
        "deb [arch=amd64 signed-by=/a/key.gpg] http://mirror.example/debian bookworm main contrib # note\n"
    )
    assert debian.mirror(*host(tmp_path, lists=lists)) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    ("release", "sources"),
    [
        (BOOKWORM, DEB822.replace("Types:", "Enabled: no\nTypes:")),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", DEB822.replace("bookworm", "noble")),
        (BOOKWORM, ""),
    ],
    ids=["disabled", "another distribution", "no source"],
)
def test_without_an_active_debian_source_there_is_no_mirror(tmp_path: Path, release: str, sources: str) -> None:
    assert debian.mirror(*host(tmp_path, release=release, sources=sources)) is None


def test_a_missing_os_release_is_no_debian(tmp_path: Path) -> None:
    assert debian.mirror(tmp_path, tmp_path / "absent") is None
