#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A case without an Allrun: make the mesh where there is none, decompose, run the application, put it together again.
# Usage: openfoam_run.sh APPLICATION SUBDOMAINS, in the case's directory; 0 subdomains: one process.
set -e -o pipefail

logged() { # NAME COMMAND...: to the output and to log.NAME
    local name=$1
    shift
    "$@" 2>&1 | tee "log.$name"
}

if [ ! -d constant/polyMesh ] && [ -f system/blockMeshDict ]; then
    logged blockMesh blockMesh
fi
if [ "$2" -gt 0 ]; then
    logged decomposePar decomposePar -force
    logged "$1" mpirun -np "$2" "$1" -parallel
    logged reconstructPar reconstructPar
else
    echo "@@@ no system/decomposeParDict: one process"
    logged "$1" "$1"
fi
