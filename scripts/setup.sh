#!/bin/sh
# Make the virtual environment in .venv what one of the make targets needs, from nothing or from what is there.
#
#   scripts/setup.sh run     the package with the extras that `make demo` uses
#   scripts/setup.sh dev     that, and the pinned development tools
#   scripts/setup.sh docs    the pinned documentation builder alone
#
# What is done is remembered by the contents of the files it was made from, so that a second call costs nothing.
# An environment that a killed set-up left half made, that was moved here, or whose Python is gone, is made anew.
# It uses uv where uv is on the PATH, and venv with pip where it is not.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python
stamps=$venv/.setup # goes away with the environment it speaks of
constraint='import sys; sys.exit(sys.version_info < (3, 11))'

say() { printf '%s\n' "setup: $*" >&2; }

die() {
    say "$*"
    exit 1
}

find_python() {
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        if [ -n "$name" ] && "$name" -c "$constraint" 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# Whether .venv is whole: it has a Python that starts and is new enough, it stands where it was made, and no set-up was
# cut short in it.
whole() {
    [ -x $python ] && $python -c "$constraint" 2>/dev/null || return 1
    [ ! -e $stamps/under-way ] || return 1
    [ ! -e $stamps/place ] || [ "$(cat $stamps/place)" = "$PWD" ]
}

make_venv() {
    rm -rf $venv
    if command -v uv >/dev/null; then
        say "making $venv with uv"
        uv venv --quiet --python "${PYTHON:->=3.11}" $venv
    else
        found=$(find_python) || die "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python"
        say "making $venv with $found"
        "$found" -m venv $venv || die "the venv module does not work (Debian: install python3-venv)"
    fi
}

install() {
    if command -v uv >/dev/null; then
        uv pip install --quiet --python $python "$@"
    else
        $python -m pip --version >/dev/null 2>&1 || $python -m ensurepip >/dev/null
        $python -m pip install --quiet --quiet --disable-pip-version-check "$@"
    fi
}

# Call `step NAME FILES... -- ARGUMENTS...`: install ARGUMENTS, unless that was done with FILES as they are now.
step() {
    name=$1
    shift
    files=
    while [ "$1" != -- ]; do
        files="$files $1"
        shift
    done
    shift
    # shellcheck disable=SC2086  # a list of plain names
    key=$(cat $files | cksum)
    [ "$(cat "$stamps/$name" 2>/dev/null)" != "$key" ] || return 0
    say "installing what '$name' needs"
    : >$stamps/under-way
    if ! install "$@"; then
        rm -f $stamps/under-way # it ended by itself: what was there before is still whole
        die "the installation failed; see above"
    fi
    rm -f $stamps/under-way
    printf '%s\n' "$key" >"$stamps/$name"
}

# Installs the package with the extras of `make demo`, in the versions that the tests have seen.
run() {
    step run pyproject.toml requirements/dev.txt -- --constraint requirements/dev.txt --editable '.[video,progress]'
}

whole || make_venv
mkdir -p $stamps
printf '%s\n' "$PWD" >$stamps/place
case "${1:-}" in
    run)
        run
        ;;
    dev)
        run
        step dev requirements/dev.txt -- --requirement requirements/dev.txt
        ;;
    docs)
        step docs requirements/docs.txt -- --requirement requirements/docs.txt
        ;;
    *)
        die "say what for: run, dev or docs"
        ;;
esac
