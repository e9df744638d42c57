# SPDX-License-Identifier: Apache-2.0
"""A case folder becomes an archive, an archive becomes a folder, or nothing at all."""
