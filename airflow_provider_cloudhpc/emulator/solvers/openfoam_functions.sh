# SPDX-License-Identifier: Apache-2.0
# The functions of $WM_PROJECT_DIR/bin/tools/RunFunctions that an Allrun uses, for installations that leave the file out.

isTest() { # whether -test or -t is among the arguments
    local word
    for word; do
        case $word in -test | -t) return 0 ;; esac
    done
    return 1
}

_entry() { # FILE KEY: the value of "KEY value;"
    sed -n "s/^[[:space:]]*$2[[:space:]]\{1,\}\([^;[:space:]]*\)[[:space:]]*;.*/\1/p" "$1" | head -n 1
}

getApplication() { _entry system/controlDict application; }

getNumberOfProcessors() { _entry "${1:-system/decomposeParDict}" numberOfSubdomains; }

restore0Dir() {
    if [ -d 0.orig ]; then
        rm -rf 0
        cp -r 0.orig 0
    fi
}

_run() { # LAUNCHER [-append] [-overwrite] [-s SUFFIX] [-np N] [-decomposeParDict FILE] APPLICATION ARGUMENTS...
    local launcher=$1 append= overwrite= suffix= np= dict=
    shift
    while :; do
        case $1 in
            -append | -a) append=1 ;;
            -overwrite | -o) overwrite=1 ;;
            -suffix | -s) suffix=.$2; shift ;;
            -np | -n) np=$2; shift ;;
            -decomposeParDict) dict=$2; shift ;;
            *) break ;;
        esac
        shift
    done
    local name=${1##*/} log
    log=log.$name$suffix
    if [ -f "$log" ] && [ -z "$append$overwrite" ]; then
        echo "$name already run on $PWD: remove log file '$log' to re-run"
        return 0
    fi
    [ -n "$append" ] || : >"$log"
    if [ "$launcher" = parallel ]; then
        np=${np:-$(getNumberOfProcessors $dict)}
        echo "Running $name ($np processes) on $PWD"
        mpirun -np "$np" "$@" -parallel </dev/null >>"$log" 2>&1
    else
        echo "Running $name on $PWD"
        "$@" >>"$log" 2>&1
    fi
}

runApplication() { _run serial "$@"; }

runParallel() { _run parallel "$@"; }
