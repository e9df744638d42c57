# SPDX-License-Identifier: Apache-2.0
"""What is known of the other tasks of a DAG before they run, mapped ones included."""

from __future__ import annotations

from typing import Any


def launches(task: Any) -> bool:
    """Whether a task, mapped or not, starts simulations."""
    return bool(getattr(getattr(task, "operator_class", task), "launches_simulations", False))


def argument_of(task: Any, name: str, default: Any = None) -> Any:
    """
    Give an argument of a task as the DAG's author wrote it: its templates are not rendered.

    :param default: for a task that was not given it; one that a mapping expands counts as not given
    """
    return getattr(task, "partial_kwargs", {}).get(name, getattr(task, name, default))
