#!/usr/bin/env bash
# A browser for the tests of the viewer's page, from Debian's packages, where there is none. Where
# that cannot be done it says so, and those tests are skipped.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ -n "${TINKER_RL_CHROMIUM:-}" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no Chromium: the tests of the viewer's page are skipped. Install it, or set" >&2
    echo "TINKER_RL_CHROMIUM to one; as root on Debian this script does it." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >&2; then
    echo "Chromium could not be installed: the tests of the viewer's page are skipped." >&2
fi
