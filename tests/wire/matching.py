# SPDX-License-Identifier: Apache-2.0
"""Read the transcripts of the wire, and hold values against their matchers (README.md beside this file)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ABSENT = object()
TYPES: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "list": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, Mapping),
    "url": lambda v: isinstance(v, str) and re.match(r"https?://[^/]+/.+", v) is not None,
    "date": lambda v: isinstance(v, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", v) is not None,
    "numeric": lambda v: not isinstance(v, bool) and re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", str(v)) is not None,
    "nothing": lambda v: v is None or v == "",
}


def transcripts(side: str) -> list[dict[str, Any]]:
    """
    Give every scenario (side ``server``) or exchange (side ``client``) of all files.
    """
    files = sorted(Path(__file__).parent.glob("*.json"))
    return [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))[side]]


def fill(template: Any, names: Mapping[str, Any]) -> Any:
    """
    Put saved values in the place of ``{name}``; a string that is nothing but one name becomes the value itself.
    """
    if isinstance(template, Mapping):
        return {key: fill(value, names) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, names) for value in template]
    if not isinstance(template, str):
        return template
    if template[1:-1] in names and template == f"{{{template[1:-1]}}}":
        return names[template[1:-1]]
    return re.sub(r"\{(\w+)\}", lambda m: str(names.get(m[1], m[0])), template)


def pointed(document: Any, pointer: str) -> Any:
    """
    Give what a JSON pointer points to.
    """
    for part in pointer.strip("/").split("/"):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def differences(matcher: Any, value: Any, where: str = "it") -> list[str]:
    """
    Say where a value is not what its matcher wants; an empty list where it is.
    """
    if isinstance(matcher, Mapping):
        for key in matcher:
            if key.startswith("$"):
                return _special(key, matcher[key], value, where)
        if not isinstance(value, Mapping):
            return [f"{where} is {value!r}, not an object"]
        return [
            problem
            for key, inner in matcher.items()
            for problem in differences(inner, value.get(key, ABSENT), f"{where}.{key}")
        ]
    if value is ABSENT:
        return [f"{where} is missing"]
    if isinstance(matcher, list):
        if not isinstance(value, list) or len(value) != len(matcher):
            return [f"{where} is {value!r}, not a list of {len(matcher)}"]
        return [
            problem
            for index, (inner, element) in enumerate(zip(matcher, value, strict=True))
            for problem in differences(inner, element, f"{where}[{index}]")
        ]
    same = value == matcher and isinstance(value, bool) == isinstance(matcher, bool)
    return [] if same else [f"{where} is {value!r}, not {matcher!r}"]


def _special(operator: str, wanted: Any, value: Any, where: str) -> list[str]:
    if operator == "$absent":
        return [] if value is ABSENT else [f"{where} should not be there, and is {value!r}"]
    if value is ABSENT:
        return [f"{where} is missing"]
    if operator == "$all":
        return [problem for inner in wanted for problem in differences(inner, value, where)]
    if operator == "$each":
        if not isinstance(value, list) or not value:
            return [f"{where} is {value!r}, not a list with something in it"]
        return [p for index, element in enumerate(value) for p in differences(wanted, element, f"{where}[{index}]")]
    if operator == "$contains":
        elements = value if isinstance(value, list) else []
        missing = [inner for inner in wanted if all(differences(inner, element) for element in elements)]
        return [f"{where} has nothing like {inner!r}: {value!r}" for inner in missing]
    tests: dict[str, Callable[[], bool]] = {
        "$anything": lambda: True,
        "$is": lambda: str(value) == str(wanted),
        "$any": lambda: any(not differences(inner, value) for inner in wanted),
        "$match": lambda: isinstance(value, str) and re.search(wanted, value) is not None,
        "$count": lambda: isinstance(value, list) and len(value) == wanted,
        "$type": lambda: TYPES[wanted](value),
    }
    return [] if tests[operator]() else [f"{where} is {value!r}, not {{{operator}: {wanted!r}}}"]
