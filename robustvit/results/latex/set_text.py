"""Any text as pdfLaTeX sets it, and an estimate of its width."""

from __future__ import annotations

import unicodedata

_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "−": "$-$",
    "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "ε": r"$\varepsilon$", "α": r"$\alpha$", "β": r"$\beta$", "δ": r"$\delta$",
    "σ": r"$\sigma$", "μ": r"$\mu$", "µ": r"$\mu$", "λ": r"$\lambda$", "–": "--", "—": "---", "…": r"\ldots{}", "°": r"$^\circ$",
    '"': "''", "’": "'", "‘": "`", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ł": r"\l{}", "Ł": r"\L{}",
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": "~", "\u202f": r"\,",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u0308": '"', "\u030a": "r",
    "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
_WIDTHS = {  # points, of Computer Modern at 10 points; a sign that is not here has the widest
    2.8: "ijl.,:;'[]!|", 3.4: "_f-` ", 3.9: "rst()I", 4.5: "cez\"", 5.0: "0123456789agov*/", 5.6: "bdhknpquxyS?J", 7.3: "w<>=+~BCEFLPRTZ",
    7.8: "ADGHKNOQUVXY&^", 8.4: "m%#→×−±@", 10.3: "WM", 5.1: "↑↓·{}\\$",
}  # fmt: skip
_WIDTH_OF = {sign: width for width, signs in _WIDTHS.items() for sign in signs}
_SMALL = 0.925  # of those widths, at 9 points
_BOLD = 1.15  # of the width of plain text
LINE = 345.0  # points, of the class article at 10 points
COLUMN_GAP = 7.0  # points between two columns


def latex_text(text: object, *, breaks: bool = False) -> str:
    """Text in LaTeX. What its fonts do not have is written by its number, `U+202E`, so that no two labels become one.

    breaks: whether a line may end behind `_`, `/`, `+` and `:`.
    """
    found = "".join(_set(sign) for sign in str(text))
    found = found.replace("--", "-{}-") if "--" in str(text) else found
    if breaks:
        for sign in (r"\_", "/", "+", ":"):
            found = found.replace(sign, sign + r"\allowbreak{}")
    return found


def text_width(text: object, *, bold: bool = False) -> float:
    """How wide a text is set at \\small, in points: an estimate that is rarely below the truth."""
    return sum(map(_width, str(text))) * (_BOLD if bold else 1.0)


def longest_word(text: object) -> float:
    """The width of the longest part of a text that no line can end in, in points."""
    parts = str(text)
    for sign in "_/+:":
        parts = parts.replace(sign, sign + " ")
    return max((text_width(part) for part in parts.split()), default=0.0)


def _set(sign: str) -> str:
    if sign in _COMMANDS:
        return _COMMANDS[sign]
    if " " <= sign <= "~":
        return sign
    base, *marks = list(unicodedata.normalize("NFD", sign))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii() and base.isalpha():
        dotless = {"i": r"\i", "j": r"\j"}.get(base, base)
        return rf"\{_ACCENTS[marks[0]]}{{{dotless}}}"
    return f"U+{ord(sign):04X}"


def _width(sign: str) -> float:
    base = unicodedata.normalize("NFD", sign)[0]
    return _SMALL * (_WIDTH_OF[base] if base in _WIDTH_OF else sum(_WIDTH_OF.get(one, 8.4) for one in _set(sign)))
