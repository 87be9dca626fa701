#!/usr/bin/env bash
# The browser test needs Chromium. On Debian and Ubuntu this installs it; elsewhere the test is skipped with a reason.
set -u
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq chromium >/dev/null || echo "Chromium could not be installed; its test is skipped"
else
  echo "Chromium is not installed; its test is skipped"
fi
exit 0
