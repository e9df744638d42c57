# SPDX-License-Identifier: Apache-2.0
"""Many waits on few calls: which call answers most, when it may be made."""
