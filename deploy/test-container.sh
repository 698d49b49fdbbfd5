#!/usr/bin/env bash
# Builds deploy/Containerfile for real and tries the image as compose.yaml runs it: not as root, read-only root.
#
#   deploy/test-container.sh             # LIMIT_S=600 where it is slow
#
# Needs root, Debian's packages buildah, mmdebstrap and systemd-container, and the mirrors that apt and pip are set up
# with; no image registry: a small Debian with Python, made here, stands for the base image. Everything happens in
# namespaces and in one temporary folder (1 GB, below TMPDIR), which end with it; the network of the image is its own.
# Exit code: 0 good, 77 this machine does not allow it and one line says why, 1 a fault.
set -euo pipefail

readonly LIMIT_S=${LIMIT_S:-300}
readonly NEEDED_MB=1500
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}
bundle=/etc/ssl/certs/ca-certificates.crt # where Debian has it

skip() {
    echo "$*" >&2
    exit 77
}

# Whoever is inside holds the lock until its last process has ended.
clean() {
    flock --wait 20 "$1/lock" true || echo "something still runs in $1" >&2
    rm -rf --one-file-system "$1"
}

# --- outside: what is needed, a folder, namespaces, and an end to all of it ----------------------

outside() {
    local name package missing=() work child code=0
    [ "$(id -u)" -eq 0 ] || skip "building an image needs root"
    for name in buildah:buildah mmdebstrap:mmdebstrap systemd-nspawn:systemd-container; do
        package=${name#*:}
        command -v "${name%%:*}" >/dev/null || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] || skip "${missing[*]} is not installed: apt-get install ${missing[*]}"
    command -v "$python" >/dev/null || skip "there is no $python"
    unshare --mount --pid --fork --mount-proc true 2>/dev/null || skip "this machine allows no namespaces"

    work=$(mktemp -d -t resender-container.XXXXXX)
    # shellcheck disable=SC2064  # the name of now
    trap "clean '$work'" EXIT
    chmod 755 "$work" # apt's own user has to get through
    [ "$(df --output=avail -m "$work" | tail -1)" -ge "$NEEDED_MB" ] || skip "less than $NEEDED_MB MB are free in $work"

    # The end of the first process of the namespaces is the end of all the others, and of their mounts.
    timeout --kill-after=5 "$LIMIT_S" \
        unshare --mount --pid --fork --kill-child --mount-proc bash "${BASH_SOURCE[0]}" --inside "$work" &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' INT TERM HUP
    wait "$child" || code=$?
    # `wait` ends early at a signal; what was started has ended only now.
    wait "$child" 2>/dev/null || true
    [ "$code" -ne 124 ] && [ "$code" -ne 137 ] || echo "it took longer than $LIMIT_S s" >&2
    case $code in
    0 | 77) exit "$code" ;;
    *) exit 1 ;;
    esac
}

# --- inside ---------------------------------------------------------------------------------------

say() { echo "$(printf '%4d' "$SECONDS") s  $*"; }

fail() {
    echo "FAILED: $*" >&2
    grep -v 'Copying blob' "$work/log" | tail -60 | sed 's/^/    | /' >&2 || true
    exit 1
}

# A mirror that cannot be reached is the machine's fault; in CI nothing may be missing.
step() {
    local name=$1
    shift
    : >"$work/log"
    if ! "$@" >"$work/log" 2>&1 </dev/null; then
        local alone='name resolution|failure resolving|could not connect|unable to connect|unreachable|timed out'
        if [ -z "${CI:-}" ] && grep -qiE "$alone" "$work/log"; then
            skip "$name: a mirror of packages cannot be reached"
        fi
        fail "not done: $name"
    fi
    : >"$work/log"
    say "$name"
}

nspawn=(systemd-nspawn --quiet --register=no --keep-unit --timezone=off)

inside() {
    work=$1
    exec 9>"$work/lock"
    flock 9
    # nspawn leaves a folder for each of its machines here.
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs tmpfs /run/systemd/nspawn

    make_nest
    "${nspawn[@]}" --directory="$work/nest" --bind-ro=/usr /usr/bin/true >"$work/log" 2>&1 </dev/null ||
        skip "systemd-nspawn does not work on this machine: $(tail -1 "$work/log")"
    step "base image made" make_base
    step "image built" build
    read_image
    look_into_image
    try_demo
    try_server
    say "good: $(cat "$work/size")"
}

# A root that has nothing but this machine's programs: buildah changes nothing of the machine.
make_nest() {
    local nest=$work/nest name
    mkdir -p "$nest"/{dev,etc/containers,proc,root,run,sys,tmp,usr,var/tmp,work}
    for name in bin sbin lib lib32 lib64 libx32; do
        [ ! -L "/$name" ] || ln -s "usr/$name" "$nest/$name"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$nest/etc/passwd"
    echo 'root:x:0:' >"$nest/etc/group"
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$nest/etc/containers/policy.json"
    printf '[storage]\ndriver = "vfs"\ngraphroot = "/trial/store"\nrunroot = "/run/containers"\n' \
        >"$nest/etc/containers/storage.conf"
}

# Debian's packages taken apart but not set up, which takes a third of the time: so its Python has no bytecode, like
# that of the real base image. The mirrors and ways to them are this machine's.
make_base() {
    local sources=() file codename
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ ! -s "$file" ] || sources+=("$file")
    done
    apt-config dump Acquire | grep -E '^Acquire::(https?|Check-|Retries|ForceIPv)' >"$work/apt.conf" || true
    # shellcheck disable=SC2016  # $1 is the hook's
    TMPDIR=$work mmdebstrap --mode=root --variant=extract --format=tar \
        --include=base-files,base-passwd,ca-certificates,coreutils,dash,findutils,grep,libc-bin,python3-venv,sed \
        --aptopt="$work/apt.conf" \
        --extract-hook='cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"' \
        --extract-hook='cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"' \
        --extract-hook='[ -e "$1/bin/sh" ] || ln -s dash "$1/bin/sh"' \
        --extract-hook='rm -rf "$1/usr/share/doc" "$1/usr/share/locale" "$1/usr/share/man"' \
        "$codename" "$work/base.tar" "${sources[@]}"
}

# Write what pip is set up with here as a pip.conf, and the files and folders it names as options of nspawn and buildah.
pip_setup() {
    local each found=""
    for each in "$python" "$root/.venv/bin/python" python3; do
        if "$each" -m pip --version >/dev/null 2>&1; then
            found=$each
            break
        fi
    done
    { [ -z "$found" ] || "$found" -m pip config list; } | "$python" -c '
import ast, os, sys

known = {
    "cert", "client-cert", "constraint", "default-timeout", "extra-index-url", "find-links", "index-url", "no-index",
    "proxy", "retries", "timeout", "trusted-host",
}
values, paths = {}, set()
for line in sys.stdin:
    name, _, value = line.strip().partition("=")
    section, _, name = name.rpartition(".")
    if name in known and section in ("global", "install", ":env:"):
        values[name] = ast.literal_eval(value)  # the environment comes last and wins
for value in values.values():
    for word in value.split():
        path = word.removeprefix("file://")
        if path.startswith("/") and os.path.exists(path):
            paths.add(path)
        if path.endswith("/simple") and os.path.isdir(path):
            paths.add(os.path.dirname(path))  # an index in a folder leads to files beside it
with open(sys.argv[1], "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
    file.write("[global]\n")
    for name, value in values.items():
        file.write("{} = {}\n".format(name, "\n    ".join(value.splitlines())))
paths = {path for path in paths if not any(path.startswith(other + "/") for other in paths)}
print("\n".join(sorted(paths)))
' "$work/pip.conf"
}

build() {
    local path binds=() volumes=(--volume /trial/pip.conf:/etc/pip.conf:ro) name variables=()
    local paths
    paths=$(pip_setup) || return
    # Debian's pip believes the authorities of this file and has none of its own.
    [ ! -e "$bundle" ] || paths+=$'\n'$bundle
    while read -r path; do
        binds+=(--bind-ro="$path")
        volumes+=(--volume "$path:$path:ro")
    done < <(sed '/^$/d' <<<"$paths" | sort -u)
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || variables+=(--setenv="$name=${!name}")
    done
    printf '%s\n' "${volumes[@]}" >"$work/volumes"
    cat >"$work/build" <<'END'
set -eu
export BUILDAH_ISOLATION=chroot
cd /trial
base=$(buildah from scratch)
buildah add --quiet "$base" base.tar /
buildah commit --quiet --rm "$base" localhost/base
rm base.tar # the disk may be small
mapfile -t volumes <volumes
buildah build --format docker --build-arg BASE=localhost/base --build-arg VERSION="$VERSION" "${volumes[@]}" \
    -f /src/deploy/Containerfile -t localhost/resender /src
buildah inspect --type image localhost/resender >image.json
buildah images --format '{{.Size}}' localhost/resender >size
image=$(buildah from localhost/resender)
buildah mount "$image" >place
END
    "${nspawn[@]}" --directory="$work/nest" --bind-ro=/usr --bind="$work:/trial" --bind-ro="$root:/src" "${binds[@]}" \
        --setenv=VERSION=1.2.3 "${variables[@]}" /bin/bash /trial/build
}

# What the image says about itself: the container below is started from nothing else.
read_image() {
    local place
    "$python" - "$work" <<'END' || fail "the image is not what it should be"
import json, pathlib, re, sys

work = pathlib.Path(sys.argv[1])
image = json.loads((work / "image.json").read_text())["Docker"]["config"]
assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image["User"]), image["User"]
assert image["StopSignal"] == "SIGTERM", image["StopSignal"]
assert list(image["Volumes"]) == ["/data"], image["Volumes"]
# No shell in between: it would keep signals for itself.
assert image["Entrypoint"] == ["python", "run.py"], image["Entrypoint"]
assert not image["Cmd"], image["Cmd"]
kind, *check = image["Healthcheck"]["Test"]
assert kind == "CMD", kind
labels = image["Labels"]
assert labels["org.opencontainers.image.version"] == "1.2.3", labels
for name in ("title", "description", "licenses", "revision"):
    assert labels["org.opencontainers.image." + name], name
values = dict(pair.split("=", 1) for pair in image["Env"])
assert values["RESENDER_DATA_DIR"] == values["HOME"] == values["TMPDIR"] == "/data", values
for name, words in {
    "user": image["User"].split(":"), "folder": [image["WorkingDir"]], "environment": image["Env"],
    "entrypoint": image["Entrypoint"], "check": check,
}.items():
    (work / name).write_bytes(b"".join(word.encode() + b"\0" for word in words))
END
    place=$(<"$work/place")
    mapfile -d '' user <"$work/user"
    mapfile -d '' folder <"$work/folder"
    mapfile -d '' environment <"$work/environment"
    mapfile -d '' entrypoint <"$work/entrypoint"
    mapfile -d '' check <"$work/check"
    image=$work${place#/trial}
}

look_into_image() {
    local found app="$image${folder[0]}"
    found=$(cd "$app" && find . -maxdepth 1 -mindepth 1 -printf '%f\n' | sort | tr '\n' ' ')
    [ "$found" = ".venv LICENSE __pycache__ admin_static healthcheck.py resender run.py " ] ||
        fail "the folder of the program holds $found"
    # Bytecode of every module, as nobody can write it later.
    found=$(find "$app/resender" "$app/.venv" -name '*.py' -printf '%h %f\n' | while read -r at name; do
        compgen -G "$at/__pycache__/${name%.py}.*.pyc" >/dev/null || echo "$at/$name"
    done)
    [ -z "$found" ] || fail "no bytecode of $(head -3 <<<"$found")"
    found=$(find "$image" -xdev -not -type l \( -user "${user[0]}" -o -perm -o=w -not -perm -1000 \) -not -path '*/dev/*' \
        -not -path "$image/data")
    [ -z "$found" ] || fail "not only root may change $found"
    found=$(find "$image/usr/bin" "$image/usr/local/bin" "$app/.venv/bin" \
        \( -name 'gcc*' -o -name 'cc' -o -name make -o -name 'pip*' \) 2>/dev/null || true)
    [ -z "$found" ] || fail "there are build tools: $found"
    [ "$(stat -c '%u:%g %a' "$image/data")" = "${user[0]}:${user[1]} 700" ] || fail "/data is not the user's own"
    say "image looked into"
}

# Start the image with these words behind its entry point.
start() {
    local variable variables=()
    for variable in "${environment[@]}"; do variables+=(--setenv="$variable"); done
    mkdir -p "$work/data"
    chmod 700 "$work/data"
    chown "${user[0]}:${user[1]}" "$work/data"
    "${nspawn[@]}" --machine="resender-$$" --directory="$image" --read-only --tmpfs=/tmp:ro --bind="$work/data:/data" \
        --user="${user[0]}" --drop-capability=all --no-new-privileges=yes --private-network --resolv-conf=off \
        --chdir="${folder[0]}" "${variables[@]}" "${entrypoint[@]}" "$@" >"$work/log" 2>&1 </dev/null &
    machine=$!
    local i
    for ((i = 0; i < 300; i++)); do
        kill -0 "$machine" 2>/dev/null || fail "it ended at its start"
        if find_first && within "${check[@]}" >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    within "${check[@]}" >>"$work/log" 2>&1 || true
    fail "the health check does not succeed"
}

# Find the first process of the container, the program itself.
find_first() {
    local file
    file=$(grep -ls "^PPid:[[:space:]]*$machine\$" /proc/[0-9]*/status | head -1) || true
    first=${file#/proc/}
    first=${first%/status}
    [ -n "$first" ]
}

# Run something in the container as an engine does it: in its namespaces, as its user, with its environment.
within() {
    timeout 20 nsenter --target="$first" --mount --uts --ipc --net --pid --root --wd \
        --setuid="${user[0]}" --setgid="${user[1]}" env -i "${environment[@]}" "$@" </dev/null
}

ask() {
    within python -c 'import sys, urllib.request as u; print(u.urlopen("http://127.0.0.1:8000" + sys.argv[1]).read().decode())' "$1"
}

# Stop it as an engine does it.
stop() {
    local code=0
    kill -TERM "$first"
    timeout 30 tail --pid="$machine" -f /dev/null || fail "SIGTERM does not stop it"
    wait "$machine" || code=$?
    [ "$code" -eq 0 ] || fail "after SIGTERM it ended with $code"
    grep -q "stopped" "$work/log" || fail "it does not say that it stopped"
    ! grep -q Traceback "$work/log" || fail "something went wrong unseen"
}

try_demo() {
    local word place answer
    start demo
    say "demo is healthy"
    grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$first/status" || fail "it may get new privileges"
    grep -q "^Uid:[[:space:]]*${user[0]}[[:space:]]" "/proc/$first/status" || fail "it is another user"
    [ "$(tr '\0' ' ' <"/proc/$first/cmdline")" = "${entrypoint[*]} demo " ] || fail "the first process is another one"
    for word in '/api/v3/ticker/bookTicker?symbol=BTCUSDT BTCUSDT' '/fapi/v1/klines?symbol=BTCUSDT&interval=1m [[' \
        '/metrics resender_build_info' '/admin/login <html'; do
        answer=$(ask "${word% *}" 2>>"$work/log") || fail "no answer to ${word% *}"
        [[ $answer == *"${word#* }"* ]] || fail "a wrong answer to ${word% *}: ${answer:0:300}"
    done
    ! within env RESENDER_PORT=1 "${check[@]}" >/dev/null 2>&1 || fail "the health check succeeds where nobody serves"
    for place in / /home /opt/binance-resender /tmp /var/tmp; do
        ! within touch "$place/written" 2>/dev/null || fail "$place can be written"
    done
    stop
    [ -s "$work/data/demo/resender.db" ] || fail "no database in /data"
    say "demo answers, and SIGTERM stops it"
}

# As itself: there is no exchange to be reached, but it serves.
try_server() {
    start
    within python run.py whitelist add 203.0.113.5 >>"$work/log" 2>&1 || fail "a command beside it does not work"
    [[ $(within python run.py whitelist list) == *203.0.113.5* ]] || fail "a command beside it has another database"
    stop
    say "the gateway serves, takes commands, and SIGTERM stops it"
}

if [ "${1:-}" = --inside ]; then
    inside "$2"
else
    outside
fi
