# SPDX-License-Identifier: Apache-2.0
"""Users and their keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_provider_cloudhpc.emulator.quota import Quota


@dataclass
class User:
    """
    An account.

    :param id: the ``user_id`` of its records
    :param name: how the ledger and the control call it
    :param key: its API key, None while it has none
    """

    id: int
    name: str
    key: str | None
    quota: Quota = field(default_factory=Quota)


class Accounts:
    """All users; the first is the default one."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._retired: set[str] = set()

    def __iter__(self) -> Iterator[User]:
        return iter(self._users.values())

    def add(self, name: str, key: str | None = None) -> User:
        """
        Add an account.

        :param key: its API key, default random
        :raises ValueError: for a name or a key that is taken
        """
        if name in self._users:
            raise ValueError(f"user {name!r} exists already")
        key = key or new_key()
        if self.by_key(key):
            raise ValueError("that key belongs to another user")
        user = self._users[name] = User(id=1001 + len(self._users), name=name, key=key)
        return user

    def get(self, name: str | None = None) -> User:
        """
        A user by name; the default one for None.

        :raises ValueError: where there is none of that name, naming those there are
        """
        if name is None:
            return next(iter(self._users.values()))
        try:
            return self._users[name]
        except KeyError:
            raise ValueError(f"no user {name!r}; there are: {', '.join(self._users)}") from None

    def by_key(self, key: str) -> User | None:
        """Whose key this is."""
        return next((user for user in self._users.values() if user.key is not None and user.key == key), None)

    def change_key(self, name: str | None, key: str | None) -> None:
        """Give a user another key, or none (None): the old one is refused from now on."""
        user = self.get(name)
        if user.key:
            self._retired.add(user.key)
        user.key = key

    def was_valid(self, key: str) -> bool:
        """Whether a key was good once: using it is then no fault of the client."""
        return key in self._retired


def new_key() -> str:
    """A random API key."""
    return secrets.token_hex(20)
