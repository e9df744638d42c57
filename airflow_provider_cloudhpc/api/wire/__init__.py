# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: how requests are sent, how answers are read."""
