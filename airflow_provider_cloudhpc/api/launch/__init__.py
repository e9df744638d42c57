# SPDX-License-Identifier: Apache-2.0
"""A launch that bills once: what is asked for, the state machine, its execution."""
