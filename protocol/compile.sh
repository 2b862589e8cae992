#!/bin/sh
# Regenerate protocol/*_pb2.py and *_pb2.pyi from every protocol/*.proto. Needs grpcio-tools (the dev extra).
#
# The sources are compiled under the path they are imported by (gossamer/protocol/x.proto), so the generated imports
# hold in a checkout of any name and in the wheel.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

set --
for source in protocol/*.proto; do
    set -- "$@" "gossamer/$source"
done
"$PYTHON" -m grpc_tools.protoc -Igossamer/protocol=protocol --python_out="$out" --pyi_out="$out" "$@"
cp "$out"/gossamer/protocol/*_pb2.py "$out"/gossamer/protocol/*_pb2.pyi protocol/
