# SPDX-License-Identifier: Apache-2.0
"""
What a line in a simulation's output means: the catalogue, as data.

A new line is a new :class:`Row`. The order decides where a line fits several rows: the first one takes it.
``docs/diagnosis.md`` is made from this table by ``python dev/document_catalogue.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_cloudhpc.api.diagnosis.lines import Pattern

#: The service's own page on errors and their fixes.
ERRORS_PAGE = "https://docs.cloudhpc.cloud/errors/"


class Severity(StrEnum):
    """How much a finding weighs: an error means that the results cannot be trusted."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """What a finding is about, coarse enough to decide by."""

    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    BAD_ARCHIVE = "BAD_ARCHIVE"
    BAD_INPUT = "BAD_INPUT"
    BAD_MACHINE = "BAD_MACHINE"
    MESHING = "MESHING"
    SOLVER_ERROR = "SOLVER_ERROR"
    CRASHED = "CRASHED"
    NOT_FINISHED = "NOT_FINISHED"
    PLATFORM = "PLATFORM"
    PERFORMANCE = "PERFORMANCE"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One meaning that lines of an output can have.

    :param code: stable name of the row
    :param severity: error or warning
    :param kind: what it is about
    :param patterns: any of them makes a line mean this
    :param cause: what has happened, in a sentence or two
    :param fix: what to do about it
    :param origin: who prints the line: ``cloudHPC`` or a solver's name
    :param link: page that says more, None where there is none
    :param before: how many lines before this one say why, at the most
    :param before_begins: how those begin; "" for any
    :param after: how many lines after this one say why, at the most
    """

    code: str
    severity: Severity
    kind: Kind
    patterns: tuple[Pattern, ...]
    cause: str
    fix: str
    origin: str = "cloudHPC"
    link: str | None = ERRORS_PAGE
    before: int = 0
    before_begins: str = ""
    after: int = 0


P = Pattern
_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_MORE_RAM = (
    "Use a RAM tier with more memory per vCPU (highcpu -> standard -> highmem), or more vCPUs of the same tier, "
    "or a coarser mesh."
)

CATALOGUE: tuple[Row, ...] = (
    # --- memory ---
    Row(
        "GPU_OUT_OF_MEMORY",
        _ERROR,
        Kind.BAD_MACHINE,
        (P("CUDA out of memory", talk=True), P("CUDA_ERROR_OUT_OF_MEMORY"), P("cudaErrorMemoryAllocation")),
        "The model does not fit into the memory of the GPU. A RAM tier with more main memory does not change that.",
        "Make the model or the batch smaller, or spread it over more GPUs.",
        origin="CUDA",
        link=None,
    ),
    Row(
        "SWAP_UNRESOLVED",
        _ERROR,
        Kind.OUT_OF_MEMORY,
        (P("SWAP unresolved after {n} attempts"),),
        "The machine ran out of RAM and the platform could not make room: the solver was ended.",
        _MORE_RAM,
    ),
    Row(
        "KILLED_BY_SIGNAL_9",
        _ERROR,
        Kind.OUT_OF_MEMORY,
        (
            P("KILLED BY SIGNAL: 9"),
            P("exited on signal 9"),
            P("EXIT STRING: Killed (signal 9)"),
            P("=   EXIT CODE: 9", exact=True),
            P("exit code: 137"),
            P("exit code 137"),
            P("line {n}:{n} Killed", exact=True),
            P("Killed", exact=True, alone=True),
        ),
        "A solver process was killed by the operating system, nearly always because the machine ran out of RAM.",
        _MORE_RAM,
    ),
    Row(
        "UNABLE_TO_ALLOCATE",
        _ERROR,
        Kind.OUT_OF_MEMORY,
        (
            P("Unable to allocate {any} bytes", talk=True),
            P("Unable to allocate {any} for an array with shape"),
            P("Cannot allocate memory", talk=True),
            P("cannot allocate {n} bytes", talk=True),
            P("memory exhausted", talk=True),
            P("Error allocating {n} bytes"),
            P("insufficient virtual memory"),
            P("memory allocation failed", talk=True),
            P("error allocating memory", talk=True),
            P("java.lang.OutOfMemoryError", exact=True),
            P("MemoryError", exact=True, start=True),
        ),
        "A program asked for more memory than the machine has.",
        _MORE_RAM,
    ),
    Row(
        "BAD_ALLOC",
        _ERROR,
        Kind.OUT_OF_MEMORY,
        (P("what():  std::bad_alloc"), P("instance of 'std::bad_alloc'"), P("std::bad_alloc", talk=True)),
        "A C++ program could not get memory: the machine ran out of RAM.",
        _MORE_RAM,
    ),
    Row(
        "OUT_OF_MEMORY",
        _ERROR,
        Kind.OUT_OF_MEMORY,
        (
            P("out of memory", talk=True),
            P("cgroup out-of-memory handler"),
            P("oom-kill event"),
            P("oom_kill event"),
            P("OOM Killed"),
            P("OOM-killed", talk=True),
            P("Exceeded job memory limit"),
            P("<S>_MEMORY_ERROR", exact=True),
        ),
        "The machine ran out of RAM.",
        _MORE_RAM,
    ),
    Row(
        "RAM_USED",
        _WARNING,
        Kind.OUT_OF_MEMORY,
        (P("RAM used > {n}%", exact=True), P("RAM used > {n} %", exact=True)),
        "The run came close to the RAM of its machine: a slightly larger case will fail.",
        "Take the next RAM tier (highcpu -> standard -> highmem) before the case grows.",
    ),
    # --- disk ---
    Row(
        "DISK_90",
        _ERROR,
        Kind.DISK_FULL,
        (P("HARD DISK used > {n}", exact=True, least=90),),
        "The disk of the machine was nearly full: the platform ends a run before it is.",
        "Write less: fewer output times, binary or compressed output, fewer monitored fields. "
        "The results stop where the disk was full.",
    ),
    Row(
        "AUTOMATIC_SOFT_STOP",
        _ERROR,
        Kind.DISK_FULL,
        (P("AUTOMATIC SOFT STOP", exact=True),),
        "The platform stopped the solver by itself because the disk of the machine was full.",
        "Write less: fewer output times, binary or compressed output, fewer monitored fields. "
        "The results stop where the disk was full.",
    ),
    Row(
        "NO_SPACE",
        _ERROR,
        Kind.DISK_FULL,
        (P("No space left on device", talk=True), P("Disk quota exceeded", talk=True)),
        "A program could not write: the disk was full.",
        "Write less: fewer output times, binary or compressed output. Files of that moment are likely broken.",
        origin="Linux",
        link=None,
    ),
    Row(
        "DISK_80",
        _WARNING,
        Kind.DISK_FULL,
        (P("HARD DISK used > {n}", exact=True, least=80, below=90),),
        "The disk of the machine is filling up; at 90 % the platform stops the run.",
        "Write less: fewer output times, binary or compressed output, fewer monitored fields.",
    ),
    # --- the upload ---
    Row(
        "FOLDER_NOT_IN_ARCHIVE",
        _ERROR,
        Kind.BAD_ARCHIVE,
        (P("Not found folder {word} inside of compressed file"),),
        "The archive in the storage root does not hold a folder of its own name, so nothing was run.",
        "Archive a folder that is named like the archive; or archive the folder's content and upload that into a "
        "storage folder, which is what CloudHPCUploadFolderOperator does.",
    ),
    Row(
        "FOLDER_NOT_DETECTED",
        _ERROR,
        Kind.BAD_ARCHIVE,
        (P("FOLDER {word} not detected", exact=True),),
        "The storage folder of the simulation was not found on the machine, so nothing was run.",
        "Check the folder's name (capitals count) and that the upload had ended before the launch.",
    ),
    Row(
        "ARCHIVE_FORMAT",
        _ERROR,
        Kind.BAD_ARCHIVE,
        (P("not recognized as an available compressed format"),),
        "The uploaded archive has a format that the service does not unpack.",
        "Upload zip, tar.gz, 7z, rar or xz.",
    ),
    # --- input of the solvers ---
    Row(
        "PYROSIM_FILE",
        _ERROR,
        Kind.BAD_INPUT,
        (P("is a pyrosim file"),),
        "The folder holds a PyroSim project (.psm), which FDS does not read.",
        "In PyroSim use File > Export > FDS and upload the .fds file.",
    ),
    Row(
        "NO_FDS_FILE",
        _ERROR,
        Kind.BAD_INPUT,
        (P("No FDS file detected"),),
        "There is no .fds file in the folder.",
        "Upload the .fds file into the folder itself, not into a folder below it.",
    ),
    Row(
        "MPI_PROCESS_INCORRECT",
        _ERROR,
        Kind.BAD_INPUT,
        (P("MPI_MPI_PROCESS incorrect"), P("MPI_PROCESS incorrect")),
        "The MPI_PROCESS numbers of the &MESH lines are not what the platform can run.",
        "Number MPI_PROCESS from 0 without gaps over the &MESH lines, not more of them than vCPUs; or leave it out.",
    ),
    Row(
        "MPI_PROCESS_ORDER",
        _ERROR,
        Kind.BAD_INPUT,
        (P("must be in ASCENDING ORDER", exact=True),),
        "The MPI_PROCESS numbers of the &MESH lines do not rise from line to line.",
        "Sort the &MESH lines by MPI_PROCESS.",
    ),
    Row(
        "NO_CONTROLDICT",
        _ERROR,
        Kind.BAD_INPUT,
        (P("Cannot find system/controlDict"),),
        "The folder is no OpenFOAM case: system/controlDict is not in it.",
        "Upload the case so that system/, constant/ and 0/ lie in the folder itself, without a wrapping folder.",
    ),
    Row(
        "BAD_DECOMPOSEPARDICT",
        _ERROR,
        Kind.BAD_INPUT,
        (P("incorrect decomposeParDict file"),),
        "system/decomposeParDict cannot be used for this number of processes.",
        "Correct its method and coefficients, or leave the file out so that the platform writes its own.",
    ),
    Row(
        "NO_EXPORT_FILE",
        _ERROR,
        Kind.BAD_INPUT,
        (P("no export file detected"),),
        "There is no .export file in the folder: code_aster does not know what to run.",
        "Upload the .export file beside the .comm and mesh files.",
    ),
    *(
        Row(
            f"NO_{kind}_FILE",
            _ERROR,
            Kind.BAD_INPUT,
            (P(f"No {kind} file found"),),
            f"There is no .{kind.lower()} file in the folder, which this solver starts from.",
            f"Upload the .{kind.lower()} file into the folder itself, not into a folder below it.",
        )
        for kind in ("PRJ", "IDF", "IN", "CAS")
    ),
    Row(
        "POLYMESH_NOT_FOUND",
        _WARNING,
        Kind.BAD_INPUT,
        (P("polyMesh folder not found"),),
        "The case has no mesh in constant/polyMesh; the solver has none unless the run made it.",
        "Upload the mesh with the case, name the folder that holds it as mesh=, or let the run make it.",
    ),
    Row(
        "START_FROM_LATEST_TIME",
        _WARNING,
        Kind.BAD_INPUT,
        (P("suggested to use startFrom latestTime"),),
        "system/controlDict does not start from the latest time: after a restart of a preemptible machine the run "
        "begins anew, at the cost of everything computed before.",
        "Set `startFrom latestTime;` in system/controlDict.",
    ),
    # --- the machine that was asked for ---
    Row(
        "LOW_VCPU",
        _ERROR,
        Kind.BAD_MACHINE,
        (P("low vCPU selected"),),
        "The machine is too small for this solver (1 vCPU on highcpu starts none), so nothing was run.",
        "Ask for more vCPUs.",
    ),
    Row(
        "OPENFOAM_ONE_PROCESS",
        _ERROR,
        Kind.BAD_MACHINE,
        (P("openFoam script runs with nProc > 1"), P("snappy script runs with nProc > 1")),
        "OpenFOAM needs more than one process here, and the machine has one core, so nothing was run.",
        "Ask for at least 2 vCPUs on highcore and hypercore, 4 on the other tiers (two vCPUs share a core there).",
    ),
    Row(
        "MANY_THREADS",
        _WARNING,
        Kind.PERFORMANCE,
        (P("high number of threads used"),),
        "The run uses many OpenMP threads, which seldom makes it faster.",
        "Divide the domain into more meshes (MPI processes) and use fewer threads each.",
    ),
    Row(
        "MANY_PRESSURE_ZONES",
        _WARNING,
        Kind.PERFORMANCE,
        (P("high number of Pressure Zones"),),
        "FDS found many separate pressure zones, often rooms that are closed by mistake; they slow the run down.",
        "Check the geometry for closed volumes that should be open.",
    ),
    Row(
        "SLOW_DEVC",
        _WARNING,
        Kind.PERFORMANCE,
        (P("DEVC for {any} may slow down your simulation"),),
        "A measuring device (&DEVC) of the input is costly.",
        "Leave it out or use fewer of them if the run takes too long.",
    ),
    Row(
        "WARNINGS_HIDDEN",
        _WARNING,
        Kind.PLATFORM,
        (P("no other WARNING messages showed"),),
        "There were more warnings than the platform shows.",
        "Read the solver's own log in the results for the rest.",
    ),
    # --- meshing ---
    Row(
        "SNAPPYHEXMESH_FAILURE",
        _ERROR,
        Kind.MESHING,
        (P("snappyHexMesh failure"),),
        "snappyHexMesh ended without a mesh.",
        "Read log.snappyHexMesh in the results: a surface that is not closed, a locationInMesh on a cell's face and "
        "lack of RAM are the usual causes.",
    ),
    # --- what solvers say of themselves ---
    Row(
        "FOAM_FATAL",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("--> FOAM FATAL ERROR", exact=True), P("--> FOAM FATAL IO ERROR", exact=True)),
        "An OpenFOAM program gave up with an error.",
        "Correct what the message names; an IO error names the file and the line.",
        origin="OpenFOAM",
        link=None,
        after=3,
    ),
    Row(
        "FLOATING_POINT_EXCEPTION",
        _ERROR,
        Kind.CRASHED,
        (
            P("Foam::sigFpe::sigHandler", exact=True),
            P("Floating point exception (core dumped)"),
            P("Program received signal SIGFPE", exact=True),
            P("KILLED BY SIGNAL: 8"),
            P("exited on signal 8"),
        ),
        "The solver divided by zero or overflowed: the solution diverged.",
        "Take smaller time steps or stronger relaxation, check boundary conditions, units and mesh quality.",
        origin="solvers",
        link=None,
    ),
    Row(
        "RESIDUAL_NAN",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("residual = nan"), P("residual = -nan"), P("residual = inf"), P("residual = -inf")),
        "The solution diverged: its residuals are no finite numbers, and neither are the results from there on. The "
        "solver may go on to its end all the same.",
        "Take smaller time steps or stronger relaxation, check boundary conditions, units and mesh quality.",
        origin="OpenFOAM",
        link=None,
    ),
    Row(
        "TERMINATED",
        _ERROR,
        Kind.CRASHED,
        (
            *(P(f"KILLED BY SIGNAL: {number}") for number in (2, 15)),
            *(P(f"exited on signal {number}") for number in (2, 15)),
            P("line {n}:{n} Terminated", exact=True),
        ),
        "A process of the solver was told to end from outside: by a stop signal, by a time limit in a script, or by "
        "mpirun because another process had failed.",
        "If nobody stopped it, look in the lines before this one for the process that failed first.",
        origin="solvers",
        link=None,
    ),
    Row(
        "CRASHED",
        _ERROR,
        Kind.CRASHED,
        (
            P("Foam::sigSegv::sigHandler", exact=True),
            P("Segmentation fault", exact=True, talk=True),
            P("Program received signal SIG{word}", exact=True),
            P("KILLED BY SIGNAL: {n}", least=1),
            P("exited on signal {n}", least=1),
            P("=   EXIT CODE: {n}", exact=True, least=1),
            P("forrtl: severe ("),
            P("Fortran runtime error:", exact=True),
            P("ERROR STOP", exact=True, start=True),
            P("terminate called after throwing an instance of", exact=True),
            P("PETSC ERROR: Caught signal", exact=True),
            P("line {n}:{n} Aborted", exact=True),
            *(P(f"{what} (core dumped)", exact=True) for what in ("Aborted", "Bus error", "Illegal instruction")),
            *(P(what, exact=True, alone=True) for what in ("Aborted", "Bus error", "Illegal instruction")),
            P("double free or corruption", exact=True),
            P("free(): invalid", exact=True),
            P("corrupted size vs. prev_size", exact=True),
            P("*** stack smashing detected ***", exact=True),
            P("*** buffer overflow detected ***", exact=True),
        ),
        "The solver crashed.",
        "Read the lines before this one. If the same case crashes again, try another version of the solver and a "
        "smaller case; lack of RAM can look like this too.",
        origin="solvers",
        link=None,
    ),
    Row(
        "FDS_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("ERROR: {any} - FDS stopped"), P("STOP: {any} - FDS stopped"), P("FDS was improperly set-up")),
        "FDS stopped with an error of its own.",
        "Correct the .fds file: the lines that begin with ERROR name the namelist group.",
        origin="FDS",
        link=None,
        before=3,
        before_begins="ERROR",
    ),
    Row(
        "CALCULIX_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("*ERROR", exact=True, start=True),),
        "CalculiX found an error in the input deck or could not solve it. It may end with exit code 0 nevertheless.",
        "Correct what the message names in the .inp file.",
        origin="CalculiX",
        link=None,
        after=2,
    ),
    Row(
        "ASTER_FATAL",
        _ERROR,
        Kind.SOLVER_ERROR,
        (
            P("! <F> <", exact=True),
            P("! <EXCEPTION> <", exact=True),
            P("\u2551 <F> <", exact=True),
            P("\u2551 <EXCEPTION> <", exact=True),
            P("DIAGNOSTIC JOB : <F>", exact=True),
            P("DIAGNOSTIC JOB : <S>", exact=True),
        ),
        "code_aster stopped with a fatal message.",
        "Correct what the message names in the .comm file or the mesh.",
        origin="code_aster",
        link=None,
        after=4,
    ),
    Row(
        "SATURNE_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("Error running the calculation", exact=True), P("solver script exited with status", exact=True)),
        "code_saturne ended with an error.",
        "Read run_solver.log and the error* files in the results.",
        origin="code_saturne",
        link=None,
    ),
    Row(
        "SU2_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("-- Error Exit --", exact=True),),
        "SU2 ended with an error.",
        "Correct what the message names in the .cfg file or the mesh.",
        origin="SU2",
        link=None,
        before=2,
    ),
    Row(
        "RADIOSS_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (P("ERROR TERMINATION", exact=True),),
        "OpenRadioss ended with an error.",
        "Read the *_0000.out and *_0001.out listings in the results: errors carry an id and the object's number.",
        origin="OpenRadioss",
        link=None,
    ),
    # --- what scripts stumble over ---
    Row(
        "SHARED_LIBRARY",
        _ERROR,
        Kind.BAD_INPUT,
        (P("error while loading shared libraries", exact=True),),
        "A program did not start: a library that it needs is not on the machine.",
        "Send the library with the case and set LD_LIBRARY_PATH, or take another version of the solver.",
        origin="Linux",
        link=None,
    ),
    Row(
        "WINDOWS_LINE_ENDS",
        _ERROR,
        Kind.BAD_INPUT,
        (
            P("$'\\r': command not found", exact=True),
            P("\\r': No such file or directory", exact=True),
            P("\\r\u2019: No such file or directory", exact=True),
            P("^M: bad interpreter", exact=True),
        ),
        "The lines of the script end as Windows writes them: the carriage return became a part of its commands and of "
        "the names in them.",
        "Save the script with Unix line ends (LF), as with dos2unix, and send it again.",
        origin="bash",
        link=None,
    ),
    Row(
        "SCRIPT_ERROR",
        _ERROR,
        Kind.SOLVER_ERROR,
        (
            P("Execution halted", exact=True, start=True),
            P("ERROR: LoadError:", exact=True, start=True),
            P("line {n}: syntax error near unexpected token", exact=True),
            P("line {n}: syntax error: unexpected end of file", exact=True),
        ),
        "A script ended with an error.",
        "Correct what the message names in the script.",
        origin="bash, R, Julia",
        link=None,
        before=2,
        after=2,
    ),
    Row(
        "COMMAND_FAILED",
        _WARNING,
        Kind.BAD_INPUT,
        tuple(
            P(text, exact=True)
            for text in (
                "line {n}: {any}: command not found",
                "line {n}: {any}: Permission denied",
                "line {n}: {any}: No such file or directory",
                "sh: {n}: {any}: not found",
                "bash: {any}: Permission denied",
                "bad interpreter: No such file or directory",
                "cannot execute: required file not found",
                "can't open file {any}: [Errno",
            )
        ),
        "The shell could not run a command of the script, or not open a file.",
        "If the results lack something, correct the name, or make the file executable (it keeps that in an archive).",
        origin="bash",
        link=None,
    ),
    Row(
        "MESH_CHECKS_FAILED",
        _WARNING,
        Kind.MESHING,
        (P("Failed {n} mesh checks", exact=True, least=1),),
        "checkMesh found faults in the mesh: a solver may run on it, and may diverge.",
        "Read the lines that begin with *** before this one.",
        origin="OpenFOAM",
        link=None,
        before=3,
        before_begins="***",
    ),
    Row(
        "MPI_ABORT",
        _ERROR,
        Kind.CRASHED,
        (
            P("MPI_ABORT was invoked on rank", exact=True),
            P("Fatal error in PMPI_", exact=True),
            P("process returned a non-zero exit code", exact=True),
            P("processes exited with non-zero status", exact=True),
        ),
        "A process ended the parallel run, or ended itself with an error.",
        "Read the lines before this one: they say why.",
        origin="MPI",
        link=None,
    ),
    # --- whatever else the platform calls an error ---
    Row(
        "PLATFORM_ERROR",
        _ERROR,
        Kind.PLATFORM,
        (
            P("ERROR", exact=True, start=True, platform=True),
            P("ERROR:", exact=True, platform=True),
            P("error:", start=True, platform=True),
        ),
        "The platform reports an error that this version of the provider has no explanation for.",
        "Read the line and those around it; the page lists the service's messages.",
    ),
    Row(
        "PLATFORM_WARNING",
        _WARNING,
        Kind.PLATFORM,
        (
            P("WARNING", exact=True, start=True, platform=True),
            P("WARNING:", exact=True, platform=True),
            P("warning:", start=True, platform=True),
        ),
        "The platform reports a warning that this version of the provider has no explanation for.",
        "Read the line; the page lists the service's messages.",
    ),
)
