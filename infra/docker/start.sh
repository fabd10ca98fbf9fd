#!/bin/sh
# The image's service, as process 1: SIGTERM reaches it, and it drains.
set -eu
service="$TIDEMILL_SERVICE"
unset TIDEMILL_SERVICE
exec python -m "services.$(printf %s "$service" | tr - _)"
