#!/bin/sh
# Install those of the named Debian packages that are not there, where that can be done: as root, with apt.
#
#   scripts/packages.sh nginx-light curl
#
# Elsewhere it says what is missing and goes on: what needs them says so again, and how to get them.
set -eu

missing=
for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    printf 'packages: not installed here:%s\n' "$missing" >&2
    exit 0
fi
printf 'packages: installing%s\n' "$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of plain names
{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing >/dev/null; } ||
    printf 'packages: could not be installed:%s\n' "$missing" >&2
