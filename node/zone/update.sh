#!/usr/bin/env bash
# Copies the time zone table of the installed Go toolchain into this package. Run it by `go generate ./node/zone`.
# Every node must have the same table, so commit both files and mention the new version in CHANGELOG.md.
set -euo pipefail
cd "$(dirname "$0")"
table=$(go env GOROOT)/lib/time
cp --no-preserve=mode "$table/zoneinfo.zip" zoneinfo.zip
sed -n 's/^DATA=//p' "$table/update.bash" >version.txt
grep -qE '^20[0-9]{2}[a-z]$' version.txt || { echo "the table's version is '$(cat version.txt)', want such as 2026a" >&2; exit 1; }
