"""What an edge node's births, deaths and sequence numbers leave behind. Pure, on the JSON parts of its state.

Parts: "sessions", the node's connections, each from an NBIRTH to the NDEATH with its bdSeq; "birth:" and
"birth:<device>", what aliases and names stand for (see `history`); "time:…", the own time of the newest of them;
"seq", which changes with every message: the last number and how many are missing.
"""

from typing import Any

from processors.dialects.memory import State
from processors.standard.observation import Message

SESSIONS = 64
_WRAP = 256  # bdSeq and seq count from 0 to 255
_HALF = _WRAP // 2


def session_of(state: State, message: Message) -> int | None:
    """The session that a message belongs to, by the time it began; None where it is not known or has ended."""
    found = None
    for session in _sessions(state):
        if not message.replayed or session["since"] <= message.received_us:
            found = session
    if found is None:
        return None
    ended = found.get("ended")
    if type(ended) is int and (not message.replayed or ended < message.received_us):
        return None
    return int(found["since"])


def noticed(state: State, at: int) -> tuple[int, list[dict[str, Any]]]:
    """A session whose birth was missed: what it sends now can be read once a birth of the same session comes."""
    return _opened(_sessions(state), None, None, at)


def born(state: State, sequence: int | None, own: int | None, at: int) -> tuple[int, list[dict[str, Any]]] | None:
    """The sessions after an NBIRTH, and which one it belongs to; None for one that is older than what is known."""
    sessions = _sessions(state)
    if not sessions:
        return _opened(sessions, sequence, own, at)
    last = sessions[-1]
    ended = last.get("ended") is not None
    known = last.get("bdseq")
    if _is_older(last, sequence, own, ended=ended):
        return None
    if ended or (type(known) is int and known != sequence):
        return _opened(sessions, sequence, own, at)
    # A rebirth on request, or the first birth seen of a session that was noticed before.
    return int(last["since"]), [*sessions[:-1], last | {"bdseq": sequence, "time": own}]


def died(state: State, sequence: int | None, at: int) -> list[dict[str, Any]] | None:
    """The sessions after an NDEATH; None where it changes nothing: the will of a connection that was replaced."""
    sessions = _sessions(state)
    if not sessions or sessions[-1].get("ended") is not None:
        return None
    known = sessions[-1].get("bdseq")
    if type(known) is int and sequence is not None and known != sequence:
        return None
    return [*sessions[:-1], sessions[-1] | {"ended": at}]


def counted(state: State, seq: int, *, birth: bool) -> dict[str, int] | None:
    """The sequence after a message: `missed` adds up the numbers that never came. None: a message came again."""
    known = state.get("seq")
    last = known.get("last") if isinstance(known, dict) else None
    if birth or type(last) is not int:
        return {"last": seq, "missed": missed(state)}
    gap = (seq - last - 1) % _WRAP
    return {"last": seq, "missed": missed(state) + gap} if gap < _HALF else None


def missed(state: State) -> int:
    """How many messages of the node never came, by their numbers."""
    known = state.get("seq")
    count = known.get("missed") if isinstance(known, dict) else None
    return count if type(count) is int else 0


def _opened(
    sessions: list[dict[str, Any]], sequence: int | None, own: int | None, at: int
) -> tuple[int, list[dict[str, Any]]]:
    since = max(at, sessions[-1]["since"] + 1) if sessions else at  # it names the session
    return since, [*sessions[1 - SESSIONS :], {"since": since, "bdseq": sequence, "time": own, "ended": None}]


def _is_older(last: dict[str, Any], sequence: int | None, own: int | None, *, ended: bool) -> bool:
    """Whether a birth came late: by its own time; by bdSeq where that does not say.

    A node whose clock fell back is not shut out: once its session has ended, the next bdSeq counts more than the time.
    """
    known, time = last.get("bdseq"), last.get("time")
    ahead = (sequence - known) % _WRAP if type(known) is int and sequence is not None else 0
    if type(time) is int and own is not None and own != time:
        return own < time and not (ended and 0 < ahead < _HALF)
    return ahead >= _HALF


def _sessions(state: State) -> list[dict[str, Any]]:
    part = state.get("sessions")
    if not isinstance(part, list):
        return []
    return [session for session in part if isinstance(session, dict) and type(session.get("since")) is int]
