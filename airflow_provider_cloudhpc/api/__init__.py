# SPDX-License-Identifier: Apache-2.0
"""The cloudHPC service in plain Python: no Airflow in here."""
