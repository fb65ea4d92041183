# shellcheck shell=sh
# Puts Go on the path, in the version that all that is built here shares, so that packages are built once; sourced by the
# builds.
version=1.26
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
    echo "build: no Go here; install Go $version (any Go from 1.21 on fetches it by itself) and put it on the PATH" >&2
    exit 1
fi
# Exactly this one: Go 1.27 turns on encoding/json v2, which breaks the OpenAPI of this API server.
case $(GOTOOLCHAIN=local go env GOVERSION) in
    "go$version" | "go$version".*) export GOTOOLCHAIN=local ;;
    *) export GOTOOLCHAIN=go$version.0 ;;
esac
