# SPDX-License-Identifier: Apache-2.0
"""
What tests and curious users may do to the emulated service.

The same methods are called as ``emulator.control.NAME(...)`` and as ``POST /_emulator/NAME`` with the arguments as a
JSON object. All times are seconds on the emulator's clock.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_cloudhpc.emulator.faults import Fault
from airflow_provider_cloudhpc.emulator.quota import Window, check_count
from airflow_provider_cloudhpc.emulator.settings import CPUS, RAMS, SCRIPTS, Settings
from airflow_provider_cloudhpc.emulator.simulations import Ending, Plan, Simulation
from airflow_provider_cloudhpc.emulator.storage import StorageError, check_path

if TYPE_CHECKING:
    from airflow_provider_cloudhpc.emulator.world import World


class Control:
    """
    The emulator's control desk.

    :param world: what it controls
    """

    def __init__(self, world: World) -> None:
        self._world = world

    # -- time

    def set_speed(self, speed: float) -> None:
        """Let the clock run at ``speed`` virtual seconds per real second; 0 stops it."""
        self._world.clock.speed = float(speed)

    def jump(self, seconds: float) -> float:
        """Move the clock forward; whatever becomes due happens before this returns. Returns the new time."""
        self._world.clock.jump(float(seconds))
        return self._world.clock.now()

    def now(self) -> float:
        """The emulator's time, seconds since the epoch."""
        return self._world.clock.now()

    # -- simulations

    def simulation(
        self, *, count: int = 1, user: str | None = None, script: str = "custom-script", cpu: int = 1,
        ram: str = "standard", folder: str = "made", mesh: str = "", nopre: int = 0, pending: float = 1.0,
        running: float | None = 10.0, ending: Ending = "completed", output: str = "",
        results: dict[str, Any] | None = None,
    ) -> list[int]:  # fmt: skip
        """
        Make simulations that run nothing: they wait, run and end on the emulator's clock.

        :param count: how many
        :param pending: seconds in PENDING
        :param running: seconds in RUNNING; None: until stopped or told to end
        :param ending: ``completed``, ``error``, ``stopped`` or ``crashed`` (COMPLETED, but the output tells)
        :param output: the log at the end
        :param results: result files by name
        :return: their ids
        """
        plan = Plan(pending, running, ending, output, _as_bytes(results))
        owner, folder = self._world.accounts.get(user), _path(folder, "folder")
        mesh = _path(mesh, "mesh") if mesh else ""
        offers = (("cpu", cpu, CPUS), ("ram", ram, RAMS), ("nopre", nopre, (0, 1)), ("script", script, SCRIPTS))
        for name, value, offered in offers:
            if value not in offered:
                raise ValueError(f"{name} is one of {', '.join(map(str, offered))}; not {value!r}")
        check_count(count, "count", 1)
        return [
            self._world.scheduler.launch(
                owner, cpu=cpu, ram=ram, script=script, folder=folder, mesh=mesh, nopre=nopre, plan=plan
            ).id
            for _ in range(count)
        ]

    def plan(
        self, *, script: str = "*", times: int | None = None, pending: float = 1.0, running: float | None = 10.0,
        ending: Ending = "completed", output: str = "", results: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """
        Write the part of the next simulations that clients launch, instead of running them.

        :param script: for which scripts, ``*`` as wildcard: ``fds*``
        :param times: for how many launches, None for all from now on
        """
        plan = Plan(pending, running, ending, output, _as_bytes(results))
        if times is not None:
            check_count(times, "times", 1)
        if not any(fnmatchcase(offered, _text(script, "script")) for offered in SCRIPTS):
            raise ValueError(f"no script {script!r}; there are: {', '.join(SCRIPTS)}")
        self._world.scheduler.plans.append((plan, times, script))

    def hold(self, id: int) -> None:
        """Keep a simulation in its present status (a stop signal still takes it to STOPPING)."""
        self._simulation(id).held = True

    def release(self, id: int) -> None:
        """Let a held simulation go on."""
        self._world.scheduler.release(self._simulation(id))

    def advance(self, id: int) -> int:
        """Take a simulation to its next status, held or not. Returns that status."""
        simulation = self._simulation(id)
        self._world.scheduler.advance(simulation)
        return int(simulation.status)

    def finish(
        self, id: int, ending: Ending = "completed", output: str = "", results: dict[str, Any] | None = None
    ) -> None:
        """End a simulation now, in a chosen way, with a line or more added to its output."""
        self._world.scheduler.finish(self._simulation(id), ending, _text(output, "output"), _as_bytes(results))

    def preempt(self, id: int) -> None:
        """Take a simulation's spot machine away: it starts again under the same id."""
        self._world.scheduler.preempt(self._simulation(id))

    def _simulation(self, id_: int) -> Simulation:
        try:
            return self._world.scheduler.all[int(id_)]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"no simulation {id_!r}") from None

    # -- faults and quirks

    def fault(
        self, kind: str, endpoint: str = "*", *, times: int | None = 1, rate: float = 1.0, skip: int = 0,
        user: str | None = None, **options: Any,
    ) -> int:  # fmt: skip
        """
        Let something go wrong.

        :param kind: see ``faults.KINDS``
        :param endpoint: ``[METHOD ]template``, ``*`` as wildcard, e.g. ``POST simulation/add``, ``GET signed-url``
        :param times: how many calls it strikes, None for no end
        :param rate: chance of striking a matching call, 0 to 1
        :param skip: how many matching calls go unharmed first
        :param user: name of an account, None for all
        :param options: what the kind takes
        :return: the fault's number, for ``clear_faults``
        """
        if user is not None:
            self._world.accounts.get(user)
        return self._world.faults.add(Fault(kind, endpoint, times, rate, skip, user, options)).id

    def faults(self) -> list[dict[str, Any]]:
        """The faults still waiting to strike, with their hits so far."""
        return [fault.as_dict() for fault in self._world.faults.waiting()]

    def clear_faults(self, id: int | None = None) -> None:
        """Take back one fault, or all of them."""
        self._world.faults.remove(id)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """
        Change knobs (see ``settings.Settings``). Returns all of them.

        :raises ValueError: for a name that is no setting
        """
        known = {field.name for field in fields(Settings)}
        if unknown := changes.keys() - known:
            raise ValueError(f"no setting {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
        self._world.settings = Settings(**{**vars(self._world.settings), **changes})
        return asdict(self._world.settings)

    # -- accounts

    def set_quota(
        self, hourly_limit: int | None = None, daily_limit: int | None = None, *,
        window: Literal["fixed", "rolling"] | None = None, hourly_used: int | None = None,
        daily_used: int | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """
        Change a user's quota; what is None stays. A limit of 0 means unlimited.

        :param window: ``fixed`` (starts anew at the full hour) or ``rolling``
        :param hourly_used: calls to count as made just now: what other programs on the account used up
        """
        quota, now = self._world.accounts.get(user).quota, self._world.clock.now()
        for part, limit, used in (("hourly", hourly_limit, hourly_used), ("daily", daily_limit, daily_used)):
            old: Window = getattr(quota, part)
            new = old.changed(now, limit, window)
            setattr(quota, part, new if used is None else new.emptied(now, used))

    def add_user(self, name: str, key: str | None = None) -> str:
        """Add an account with its own storage, simulations and quota. Returns its key."""
        user = self._world.accounts.add(name, key)
        assert user.key
        return user.key

    def rotate_key(self, user: str | None = None, key: str | None = None) -> str:
        """Give a user another key; the old one is refused from now on. Returns the new one."""
        return self._world.accounts.rotate_key(user, key)

    def revoke_key(self, user: str | None = None) -> None:
        """Refuse a user's key from now on."""
        self._world.accounts.revoke_key(user)

    # -- storage, everything

    def file(self, path: str, content: str | bytes = b"", *, user: str | None = None, listed: bool = True) -> int:
        """Put a file into the storage, in the listings at once unless told otherwise. Returns its id."""
        owner, path = self._world.accounts.get(user).name, _path(path, "path")
        blob = self._world.blobs.from_bytes(_content(content), self._world.clock.now())
        return self._world.store(owner, path, blob, listed).id

    def read(self, path: str, *, user: str | None = None) -> bytes:
        """A stored file's bytes."""
        node = self._world.storage(self._world.accounts.get(user).name).find(_path(path, "path"))
        if node is None or node.blob is None:
            raise ValueError(f"no file {path!r}")
        return node.blob.path.read_bytes()

    def files(self, *, user: str | None = None) -> list[str]:
        """Paths of all stored files, listed or not, in order."""
        root = self._world.storage(self._world.accounts.get(user).name).root
        return sorted(node.name for node in root.files())

    def reset(self) -> None:
        """Back to the start: nothing stored, nothing running, nothing remembered; the default user's key stays."""
        self._world.reset()


def call(control: Control, name: str, arguments: dict[str, Any]) -> Any:
    """
    Call a control method by its name.

    :raises ValueError: for a name or arguments that there are not
    """
    method = None if name.startswith("_") else getattr(control, name, None)
    if method is None:
        there = ", ".join(n for n, _ in inspect.getmembers(Control, inspect.isfunction) if not n.startswith("_"))
        raise ValueError(f"no control {name!r}; there are: {there}")
    try:
        inspect.signature(method).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    return method(**arguments)


def _as_bytes(results: dict[str, Any] | None) -> dict[str, bytes]:
    if not isinstance(results, (dict, NoneType)):
        raise ValueError(f"results are contents by file name; not {results!r}")
    return {_path(name, "result"): _content(content) for name, content in (results or {}).items()}


def _content(content: Any) -> bytes:
    if not isinstance(content, (str, bytes)):
        raise ValueError(f"a file's content is text or bytes; not {type(content).__name__}")
    return content.encode() if isinstance(content, str) else content


def _path(path: str, what: str) -> str:
    try:
        path = check_path(_text(path, what), what)
    except StorageError as error:
        raise ValueError(str(error)) from None
    if not path:
        raise ValueError(f"{what} is empty")
    return path


def _text(value: str, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is text; not {value!r}")
    return value
