# SPDX-License-Identifier: Apache-2.0
"""gzip streams through Intel's igzip (``isal``) on threads of its own; through zlib where that is not installed."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import Any, BinaryIO, cast

#: What is raised for damaged streams, besides ``OSError`` and ``EOFError``.
CODEC_ERRORS: tuple[type[Exception], ...] = (zlib.error,)
try:
    from isal import igzip_threaded, isal_zlib

    CODEC_ERRORS = (zlib.error, cast("type[Exception]", isal_zlib.error))
except ImportError:
    igzip_threaded = cast("Any", None)

#: Bytes compressed at once. Part of the format in so far as other blocks make other bytes.
BLOCK = 1 << 20
#: More threads than this only wait for the one that feeds them.
_MAX_THREADS = 4


def gzip_writer(raw: BinaryIO, level: int) -> BinaryIO:
    """
    Compress into a file; the header holds neither name nor time, so that the same blocks make the same bytes.

    :param raw: where to write; stays open
    :param level: 1 to 3, which igzip and zlib both have
    """
    if igzip_threaded is None:
        return cast("BinaryIO", gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=raw, mtime=0))
    threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    stream = igzip_threaded.open(raw, "wb", compresslevel=level, threads=threads, block_size=BLOCK)  # type: ignore[no-untyped-call]
    return cast("BinaryIO", stream)


def gzip_reader(raw: BinaryIO) -> BinaryIO:
    """
    Decompress a file; damage is found when the end has been read.

    :param raw: where to read; stays open
    """
    if igzip_threaded is None:
        return cast("BinaryIO", gzip.GzipFile(mode="rb", fileobj=raw))
    return cast("BinaryIO", igzip_threaded.open(raw, "rb", block_size=BLOCK))  # type: ignore[no-untyped-call]
