"""What a source announced, each version with the receive times from which it held: replays find what was in force.

A part is a JSON list of versions, oldest first: {"is": what was announced, null where it was taken back; "held": a list
of [from, session]}. The same thing announced once more, after others or in a new session, is kept once. Sessions are
for networks whose announcements end with a connection; the others leave it 0.
"""

from typing import Any

from processors.standard.observation import Message

VERSIONS = 4  # different ones of which a replay can find the right one
HELD = 64  # times that one of them came into force


def learned(part: Any, what: Any, at: int, session: int = 0, *, settle: int = 0) -> list[dict[str, Any]] | None:
    """The part with `what` in force from the receive time `at`; None where that changes nothing.

    What came less than `settle` microseconds before is replaced: for announcements that come piece by piece.
    """
    versions = _versions(part)
    spans = _spans(versions)
    if spans:
        _, in_session, newest = spans[-1]
        if in_session == session and newest["is"] == what:
            return None
    elif what is None:
        return None
    if spans and 0 <= at - spans[-1][0] < settle and spans[-1][2]["held"] == [[spans[-1][0], session]]:
        versions, at = [version for version in versions if version is not spans[-1][2]], spans[-1][0]
    others = [version for version in versions if version["is"] != what]
    held = [span for version in versions if version["is"] == what for span in version["held"]]
    return [*others[1 - VERSIONS :], {"is": what, "held": [*held[1 - HELD :], [at, session]]}]


def latest(part: Any) -> Any:
    """What was announced last; None where nothing was, or where it was taken back."""
    newest = _newest(part, None)
    return None if newest is None else newest["is"]


def in_force(part: Any, message: Message, session: int = 0, *, later: bool = True) -> Any:
    """What a message is read by: of its session, the newest, or for a replay what held when it first came.

    Where nothing was known yet at that time, it is the first that was announced after it, unless `later` is false.
    """
    if not message.replayed:
        newest = _newest(part, session)
        return None if newest is None else newest["is"]
    spans = [span for span in _spans(_versions(part)) if span[1] == session]
    if not spans:
        return None
    before = [span for span in spans if span[0] <= message.received_us]
    if not before:
        return spans[0][2]["is"] if later else None
    return before[-1][2]["is"]


def _newest(part: Any, session: int | None) -> dict[str, Any] | None:
    """The well-formed version that came into force last, of a session or of any: asked by every live message."""
    found, latest_at = None, 0
    for version in part if isinstance(part, list) else ():
        if not isinstance(version, dict) or "is" not in version or not isinstance(held := version.get("held"), list):
            continue
        mine: int | None = None
        for span in held:
            if type(span) is not list or len(span) != 2 or type(at := span[0]) is not int or type(span[1]) is not int:  # noqa: PLR2004 - from, session
                break
            if (session is None or span[1] == session) and (mine is None or at >= mine):
                mine = at
        else:
            if mine is not None and (found is None or mine >= latest_at):
                found, latest_at = version, mine
    return found


def _spans(versions: list[dict[str, Any]]) -> list[tuple[int, int, dict[str, Any]]]:
    spans = [(at, session, version) for version in versions for at, session in version["held"]]
    return sorted(spans, key=lambda span: span[0])


def _versions(part: Any) -> list[dict[str, Any]]:
    """What is well-formed of a part; storage may give back anything."""
    return [version for version in part if _is_version(version)] if isinstance(part, list) else []


def _is_version(version: Any) -> bool:
    return (
        isinstance(version, dict)
        and "is" in version
        and isinstance(held := version.get("held"), list)
        and all(isinstance(span, list) and [type(member) for member in span] == [int, int] for span in held)
    )
