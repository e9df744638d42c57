# SPDX-License-Identifier: Apache-2.0
"""Upload a case, download a run's results."""

from __future__ import annotations

from airflow_provider_cloudhpc.operators.downloading import CloudHPCDownloadResultOperator
from airflow_provider_cloudhpc.operators.uploading import CloudHPCUploadFileOperator, CloudHPCUploadFolderOperator

__all__ = ["CloudHPCDownloadResultOperator", "CloudHPCUploadFileOperator", "CloudHPCUploadFolderOperator"]
