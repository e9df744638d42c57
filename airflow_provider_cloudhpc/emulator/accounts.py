# SPDX-License-Identifier: Apache-2.0
"""Users and their keys."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_provider_cloudhpc.emulator.quota import Quota

#: A name is a part of the paths of the store, a key a header's value.
_NAME, _KEY = re.compile(r"\w[\w.@+-]*"), re.compile(r"[!-~]+")


@dataclass
class User:
    """
    An account.

    :param id: the ``user_id`` of its records
    :param name: how the ledger and the control call it
    :param key: its API key, None while it has none
    :param last_key: the one that it had last
    """

    id: int
    name: str
    key: str | None
    quota: Quota = field(default_factory=Quota)
    last_key: str | None = None

    def __post_init__(self) -> None:
        self.last_key = self.key


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
        :raises ValueError: for a name or a key that is taken, or cannot be
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"a user's name is made of letters, digits, _ and, but first, . @ + -; not {name!r}")
        if name in self._users:
            raise ValueError(f"user {name!r} exists already")
        user = User(id=1001 + len(self._users), name=name, key=self._free_key(key, None))
        self._users[name] = user
        return user

    def _free_key(self, key: str | None, owner: User | None) -> str:
        if key is None or key == "":
            return secrets.token_hex(20)
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError("a key is made of ASCII letters, digits and punctuation, without spaces")
        if self.by_key(key) not in (None, owner):
            raise ValueError("that key belongs to another user")
        return key

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

    def rotate_key(self, name: str | None, key: str | None = None) -> str:
        """
        Give a user another key: the old one is refused from now on.

        :param key: default random
        :return: the new one
        :raises ValueError: for a key that is another's, or cannot be
        """
        user = self.get(name)
        key = self._free_key(key, user)
        self.revoke_key(name)
        user.key = user.last_key = key
        return key

    def revoke_key(self, name: str | None) -> None:
        """Refuse a user's key from now on."""
        user = self.get(name)
        if user.key:
            self._retired.add(user.key)
        user.key = None

    def was_valid(self, key: str) -> bool:
        """Whether a key was good once: using it is then no fault of the client."""
        return key in self._retired
