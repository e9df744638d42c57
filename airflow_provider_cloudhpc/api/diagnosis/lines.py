# SPDX-License-Identifier: Apache-2.0
"""
One line of a solver's output: is it a message, or does it only mention one; and how is it quoted.

Everything here works on bytes, so that no encoding can stop it, and in linear time: patterns are literal parts
with short gaps, found by ``bytes.find``; there is no backtracking over a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Longest quotation of a line, in characters.
QUOTE_LENGTH = 300
#: Longest stretch that ``{any}`` may stand for, in bytes.
ANY_LENGTH = 400
#: Longest name that ``{word}`` may stand for, in bytes.
WORD_LENGTH = 255

# Each class excludes what ends it, so that a scan never goes back: CSI, OSC, two-byte escapes.
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[@-Z\\^_=>78])")
_QUERY = re.compile(r"(\bhttps?://[^\s?\"'<>]{1,300})\?[^\s\"'<>]+")
_NUMBER = re.compile(rb" {0,6}(\d{1,18})(?!\d)")
_WORD = re.compile(rb"[^\s]{1,%d}" % WORD_LENGTH)
_PLACEHOLDER = re.compile(r"(\{n\}|\{word\}|\{any\})")

#: Words that solvers print in every step, so that looking for them saves nothing.
_COMMON = frozenset({b"simulation", b"pressure", b"number", b"used", b"error", b"residual"})
_PLACEHOLDER_AND_TOUCHED = re.compile(r"\w*\{\w+\}\w*")

_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_PATH_BYTES = frozenset(b"/\\-")

#: Lowers letters and turns whatever is no word into white space.
_TO_WORDS = bytes(c if c in _NAME_BYTES else 32 for c in range(256)).lower()

#: How a line begins that shows a file, a command or a comment; what it holds is not a message.
_SHOWN = re.compile(
    rb"""\s*(?:
        [-dlbcps][-rwxsStT]{9}[\s.+@]                                      # ls -l, tar -tv
      | \d+\s+\d{4}-\d\d-\d\d\s\d\d:\d\d\s                                 # unzip -l
      | \d{4}-\d\d-\d\d\s\d\d:\d\d:\d\d\s[D.][R.][H.][S.][A.]\s            # 7z l
      | (?:inflating|extracting|creating|adding|linking):\s                # unzip, zip
      | x\s\S                                                              # bsdtar -v
      | \++\s                                                              # set -x
      | (?:echo|printf|grep|cat|ls|rm|mv|cp|touch|mkdir)\s                 # a script being printed
      | print\(
      | Job\s(?:TITLE|ID\sstring)\s                                       # FDS repeats the user's words
      | \#(?!\d+\s)                                                       # shell; not a stack trace
      | //|/\*|%|\$                                                        # comments of C++, SU2, Nastran
      | \*\*(?!\*|\s*(?i:error|fatal))                                     # CalculiX
      | !(?!.*!\s*$)                                                       # Fortran, FDS; not code_aster's boxes
    )""",
    re.VERBOSE,
)
#: Words that turn "out of memory" into talk about it, where they stand in the same clause before it.
_HEDGE = re.compile(
    rb"\b(?:if|when|whenever|unless|in case|without|never|no|may|might|could|would"
    rb"|avoid\w*|prevent\w*|detects?|handles?)\b",
    re.IGNORECASE,
)
#: What stands before a line's text: the rank of a parallel run, the frame of code_aster's boxes.
_FRAME = re.compile(rb"^\s*(?:\[\d{1,6}\]\s*)?(?:[!|]|\xe2\x95\x91)?\s*")
_LETTERS = re.compile(rb"[A-Za-z]")
#: How lines begin that stand around a message and say nothing.
_NO_REASON = (b"From ", b"in file ", b"FOAM exiting", b"FOAM aborting", b"FOAM parallel run", b"@@@", b"#")
_DENIED = re.compile(rb"\b(?:not|no longer|pas de|kein\w{0,2}|nessun\w{0,1})\s+$", re.IGNORECASE)
#: A command that would print it.
_ECHOED = re.compile(rb"\b(?:echo|printf)\s+(?:-\w+\s+)?['\"]")
#: The same for what stands behind it: "out of memory management".
_ABOUT = re.compile(
    rb"\s+(?:manage\w*|handl\w*|protection|guard|tests?|checks?|(?:is |was )?caught|errors? (?:is|are))\b"
    rb"|(?::|\s*\.\.\.)\s*(?:ok|passed)\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(rb"[:;,.!(\[>]")
_NAMED_BEFORE = re.compile(rb"\b(?:file|folder|directory|name|path)s?\s*[:=]?\s*['\"`]?$", re.IGNORECASE)
_ALARM = re.compile(rb"\b(?:error|fatal)\b", re.IGNORECASE)


def words_of(text: bytes) -> list[bytes]:
    """
    Split a text into its words of ASCII letters, digits and underscores, lowered.

    :param text: any number of lines
    """
    return text.translate(_TO_WORDS).split()


def strip_ansi(raw: bytes) -> bytes:
    """
    Take terminal escapes (colours, titles, cursor moves) out of a line.

    :param raw: the line's bytes
    """
    return _ANSI.sub(b"", raw) if b"\x1b" in raw else raw


def quote(raw: bytes, *, around: int = 0, hide: tuple[str, ...] = ()) -> str:
    """
    A line as it may be shown in a task log: printable, short, without credentials.

    :param raw: the line's bytes, in any encoding
    :param around: offset in bytes of what has to be seen, for lines longer than :data:`QUOTE_LENGTH`
    :param hide: texts that must not be shown
    """
    first = max(0, around - QUOTE_LENGTH // 3) if around > QUOTE_LENGTH * 2 // 3 else 0
    cut = raw[first : first + 4 * QUOTE_LENGTH]
    try:
        text = cut.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut at the end is no reason to doubt the encoding of the rest.
        whole = error.start >= len(cut) - 3 and len(raw) > first + len(cut)
        text = cut[: error.start].decode("utf-8") if whole else cut.decode("latin-1")
    text = "".join(c if c.isprintable() else " " for c in text.expandtabs(4)).strip()
    # The query of a signed URL is a credential.
    text = _QUERY.sub(r"\1?...", text)
    for secret in hide:
        if secret:
            text = text.replace(secret, "***")
    if len(text) > QUOTE_LENGTH:
        text = text[: QUOTE_LENGTH - 3].rstrip() + "..."
    return f"...{text}" if first else text


def telling_part(line: bytes) -> bytes:
    """
    Give what a line beside a message says of its reason: without the rank's number and the frame; empty if nothing.

    :param line: the line's bytes without terminal escapes
    """
    text = _FRAME.sub(b"", line.rstrip(b" \t!|").removesuffix(b"\xe2\x95\x91").rstrip())
    return b"" if len(_LETTERS.findall(text[:200])) < 3 or text.startswith(_NO_REASON) else text


def is_shown(line: bytes) -> bool:
    """
    Whether a line shows a file, a command or a comment (``ls -l``, ``set -x``, a printed input deck).

    :param line: the line's bytes without terminal escapes
    """
    return _SHOWN.match(line[:200]) is not None


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    Literal parts in a row, with gaps between them.

    ``{n}`` is a number (padded or not), ``{word}`` a run of no white space, ``{any}`` up to 400 bytes of anything.

    :param text: e.g. ``"SWAP unresolved after {n} attempts"``
    :param exact: whether upper and lower case differ
    :param alone: whether the pattern has to be all of the line (white space aside)
    :param start: whether the pattern has to stand at the start of the line (white space and ``@`` aside)
    :param platform: whether it is only tried on the platform's own lines, which begin with ``@@@``
    :param talk: whether the words occur in talk as well: quoted, hedged (``if``, ``to avoid``) or as a name,
        they are no message then
    :param least: smallest number that the first ``{n}`` may stand for
    :param below: number that the first ``{n}`` has to stay under
    """

    text: str
    exact: bool = False
    start: bool = False
    alone: bool = False
    platform: bool = False
    talk: bool = False
    least: int = 0
    below: int | None = None
    _parts: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        text = self.text if self.exact else self.text.lower()
        parts = tuple(part.encode() for part in _PLACEHOLDER.split(text) if part)
        if parts[0].startswith(b"{"):
            raise ValueError(f"A pattern begins with a literal part: {self.text!r}")
        object.__setattr__(self, "_parts", parts)

    @property
    def word(self) -> bytes:
        """A telling word, lowered, that stands in every line that the pattern fits."""
        # What touches a placeholder may be a piece of a longer word.
        words = words_of(_PLACEHOLDER_AND_TOUCHED.sub(" ", self.text).encode())
        return max(words, key=lambda word: (word not in _COMMON, len(word), word))

    def search(self, line: bytes, lowered: bytes) -> int:
        """
        Where the pattern stands as a message in the line, -1 where it does not.

        :param line: the line's bytes without terminal escapes
        :param lowered: ``line.lower()``, made once for all patterns
        """
        subject = line if self.exact else lowered
        first = self._parts[0]
        at = subject.find(first)
        if at < 0:
            return -1
        while at >= 0 and not (self.start and subject[:at].strip(b" \t@")):
            end = self._end(subject, at)
            if (
                end >= 0
                and _stands_alone(subject, at, end)
                and not (self.alone and len(subject.strip()) != end - at)
                and not (self.talk and _is_talk(subject, at, end))
                and not _ECHOED.search(subject[max(0, at - 80) : at])
            ):
                return at
            at = subject.find(first, at + len(first))
        return -1

    def _end(self, subject: bytes, at: int) -> int:
        """Offset behind the pattern that begins at ``at``, -1 where it does not match there."""
        end = at + len(self._parts[0])
        numbers = 0
        gap = False
        for part in self._parts[1:]:
            if part == b"{any}":
                gap = True
            elif part == b"{n}":
                number = _NUMBER.match(subject, end)
                if number is None:
                    return -1
                value = int(number.group(1))
                if not numbers and (value < self.least or (self.below is not None and value >= self.below)):
                    return -1
                numbers += 1
                end = number.end()
            elif part == b"{word}":
                word = _WORD.match(subject, end)
                if word is None:
                    return -1
                end = word.end()
            elif gap:
                found = subject.find(part, end, end + ANY_LENGTH + len(part))
                if found < 0:
                    return -1
                end, gap = found + len(part), False
            elif subject.startswith(part, end):
                end += len(part)
            else:
                return -1
        return end


def _stands_alone(subject: bytes, start: int, end: int) -> bool:
    """Whether ``subject[start:end]`` is words of a sentence and not a piece of a word, number, path or file name."""
    if subject[start] in _NAME_BYTES and start:
        before = subject[start - 1]
        if before in _NAME_BYTES or before in _PATH_BYTES:
            return False
    if subject[end - 1] in _NAME_BYTES and end < len(subject):
        after = subject[end]
        if after in _NAME_BYTES or after in _PATH_BYTES:
            return False
        if after == 46 and end + 1 < len(subject) and subject[end + 1] in _NAME_BYTES:
            return False
    return True


def _is_talk(subject: bytes, start: int, end: int) -> bool:
    """Whether words are quoted, hedged or a name, as in ``if you run out of memory``."""
    before = subject[max(0, start - 160) : start]
    if (
        before[-1:] in (b"'", b'"', b"`")
        and subject[end : end + 1] == before[-1:]
        and _ALARM.search(subject[:400]) is None
    ):
        return True
    if _NAMED_BEFORE.search(before) or _DENIED.search(before):
        return True
    clause = _CLAUSE.split(before)[-1]
    return _HEDGE.search(clause) is not None or _ABOUT.match(subject, end) is not None
