# SPDX-License-Identifier: Apache-2.0
"""Bytes between files, object stores and signed URLs, proven to be whole."""
