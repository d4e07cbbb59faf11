#!/bin/sh
# Starts one base in the foreground. All settings are environment variables, see README.md:
#   BASE_ID=base-1 MQTT_PORT=1883 ./run-base.sh
# BASE_WEB=true starts the base whose modules are web applications.
# Several bases on one machine need nothing but different BASE_IDs.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
jar="$here/base/target/base.jar"
[ -f "$jar" ] || { echo "run-base.sh: $jar is missing: run 'mvn -q package' in $here first" >&2; exit 1; }

: "${BASE_ID:=base-1}"
: "${BASE_DATA_DIR:=$here/target/bases/$BASE_ID}" # logs and unpacked modules
: "${JAVA:=${JAVA_HOME:+$JAVA_HOME/bin/}java}"
export BASE_ID
mkdir -p "$BASE_DATA_DIR/logs" "$BASE_DATA_DIR/biz"

# Small and quick to start: a base for development. Give one for production the memory its modules need, and leave out
# the last three. HeapDumpOnOutOfMemoryError and the like go into JAVA_OPTS.
set -- -Xmx64m -Xss256k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
# Names outside ASCII, also in a container without a locale.
set -- "$@" -Dfile.encoding=UTF-8
# Each base has its own folders: by default all would share ~/logs and one temporary folder.
set -- "$@" "-DloggingRoot=$BASE_DATA_DIR/logs" "-Dcom.alipay.sofa.ark.biz.dir=$BASE_DATA_DIR/biz"
# SOFAArk's telnet console would want port 1234.
set -- "$@" -Dsofa.ark.telnet.server.enable=false
# arklet's own HTTP API; unset: the first free port from 1238 on. It listens on all addresses without a password.
[ -z "${ARKLET_HTTP_PORT:-}" ] || set -- "$@" "-Dkoupleless.arklet.http.port=$ARKLET_HTTP_PORT"
# true: a module's newest version serves as soon as it has started. Unset: the older one goes on serving.
[ -z "${ACTIVATE_NEW_MODULE:-}" ] || set -- "$@" "-Dactivate.new.module=$ACTIVATE_NEW_MODULE"
# true: a module that cannot start stays in the list as broken.
[ "${KEEP_BROKEN:-}" != true ] || set -- "$@" -Dsofa.ark.auto.uninstall.when.failed.enable=false

main=modulet.base.BaseApplication
classes="$jar:$here/base/target/lib/*"
if [ "${BASE_WEB:-}" = true ]; then
	main=modulet.web.WebBaseApplication
	classes="$here/web-base/target/web-base.jar:$here/web-base/target/lib/*:$classes"
fi

# JAVA_OPTS is split into words on purpose.
# shellcheck disable=SC2086
exec "$JAVA" "$@" ${JAVA_OPTS:-} -cp "$classes" "$main"
