#!/usr/bin/env bash
# Check for espeak-ng, the synthesiser of the speech world; install it with apt-get when run as root.
set -euo pipefail

if command -v espeak-ng >/dev/null; then
    espeak-ng --version
elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends espeak-ng
    espeak-ng --version
else
    echo "espeak-ng is missing and this user cannot install it." >&2
    echo "As root: apt-get install espeak-ng   (Fedora: dnf install espeak-ng, macOS: brew install espeak-ng)" >&2
    exit 1
fi
