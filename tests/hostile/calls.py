"""What a hostile call is, and what it must come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robustvit.cli.exit_codes import CELLS_FAILED
from robustvit.errors import RobustvitError, UsageError

BIG = "9" * 5000  # more digits than Python turns into a number
LONG = "n" * 300  # more characters than a file may be called
_REFUSALS = (RobustvitError.exit_code, UsageError.exit_code, CELLS_FAILED)


@dataclass(frozen=True)
class Call:
    """One call. words: of the command line; code: else, Python. accepted: why this is no mistake; "" where it must be refused.

    said: what the answer must name.
    """

    name: str
    words: tuple[str, ...] = ()
    code: str = ""
    accepted: str = ""
    said: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What the zygote takes."""
        what = {"words": list(self.words)} if self.words else {"code": self.code}
        return {**what, "env": self.env}


def ending(answer: dict[str, Any]) -> str:
    """How a call ended: "hang", "traceback", "accepted" or "refused"."""
    if answer["hung"]:
        return "hang"
    if "Traceback" in answer["out"] + answer["err"] or answer["code"] not in (0, *_REFUSALS):
        return "traceback"
    return "accepted" if answer["code"] == 0 else "refused"


def fault(call: Call, answer: dict[str, Any]) -> str:
    """What is wrong with the answer to a call: "hang", "traceback", "accepted", "refused", "silent", "long"; "" where nothing is."""
    end = ending(answer)
    if end in ("hang", "traceback"):
        return end
    if call.accepted:
        heard = call.said in " ".join(answer["err"].split())
        return end if end == "refused" else "" if heard else "accepted"
    if end == "accepted":
        return end
    told = answer["err"] + (answer["out"] if call.words[:1] == ("data",) else "")  # what lacks is what `data` lists
    said = [line for line in told.splitlines() if line.strip()]
    if not said:
        return "silent"
    if max(map(len, said)) > 3000:
        return "long"
    return "" if call.said in " ".join(told.split()) else "silent"
