# SPDX-License-Identifier: Apache-2.0
"""What will fail, what failed, and what to do about it."""
