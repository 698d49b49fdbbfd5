#!/usr/bin/env bash
# shellcheck disable=SC2016  # $ between single quotes is the shell's of the machine
# Tries deploy/install.sh on a Debian of its own: from nothing, again, with other settings, updates from the versions
# before, one that is broken, and removal.
#
#   deploy/test-install.sh
#
# Needs root, Debian's packages mmdebstrap and systemd-container, and the mirrors that apt and pip are set up with.
# mmdebstrap makes the root, systemd-nspawn boots it without a network. Where that cannot be done it is entered without
# being booted, and a stand-in for systemctl runs the command lines of the units; firewall and Caddy are left out then.
# Everything happens in namespaces and one temporary folder (1.5 GB, below TMPDIR), which end with it.
# SOURCE=COMMIT tries that commit with this install.sh; MODE=chroot does not boot. Another release than this machine's:
# RELEASE="noble deb [trusted=yes] http://archive.ubuntu.com/ubuntu noble main universe".
# Exit code: 0 good, 77 this machine does not allow it and one line says why, 1 a fault.
set -euo pipefail

readonly LIMIT_S=${LIMIT_S:-900} # all of it
readonly NEEDED_MB=2500
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(dirname "$here")
bundle=/etc/ssl/certs/ca-certificates.crt # where Debian has it

skip() {
    told=yes
    echo "$*" >&2
    exit 77
}

# --- outside: what is needed, a folder, namespaces, and an end to all of it ----------------------

outside() {
    local work child code=0 scope=()
    [ "$(id -u)" -eq 0 ] || skip "a Debian root is made by root only"
    command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed: apt-get install mmdebstrap"
    [ "${MODE:-}" = chroot ] || command -v systemd-nspawn >/dev/null ||
        skip "systemd-nspawn is not installed: apt-get install systemd-container"
    unshare --mount --pid --fork --mount-proc true 2>/dev/null || skip "this machine allows no namespaces"

    work=$(mktemp -d -t resender-install.XXXXXX)
    # A folder that is still a mount of somebody is not emptied; neither are groups of processes that still live.
    # shellcheck disable=SC2064  # the names of now
    trap "rm -rf --one-file-system '$work'
        find /sys/fs/cgroup/ -depth -type d -path '*/${work##*/}*' -exec rmdir {} + 2>/dev/null || :" EXIT
    chmod 755 "$work" # apt's own user has to get through
    [ "$(df --output=avail -m "$work" | tail -1)" -ge "$NEEDED_MB" ] || skip "less than $NEEDED_MB MB are free in $work"

    # Under a systemd a group of processes of one's own is asked for.
    if [ -d /run/systemd/system ]; then scope=(systemd-run --quiet --scope --property=Delegate=yes); fi
    # The end of the first process of the namespaces is the end of all the others, and of their mounts.
    timeout --kill-after=5 "$LIMIT_S" "${scope[@]}" \
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
    told=yes
    echo "FAILED: $*" >&2
    for file in "$work/log" "$work/said"; do
        [ ! -s "$file" ] || tail -60 "$file" | sed 's/^/    | /' >&2
    done
    [ -z "${first:-}" ] || in_machine journalctl -q -u binance-resender -o cat -n 20 2>/dev/null | sed 's/^/    j /' >&2 || :
    exit 1
}

# A mirror that cannot be reached is the machine's fault; in CI nothing may be missing.
prepare() {
    local name=$1
    shift
    : >"$work/log"
    if ! "$@" >"$work/log" 2>&1 </dev/null; then
        local alone='name resolution|failure resolving|could not connect|unable to connect|unreachable|timed out'
        if [ -z "${CI:-}" ] && grep -qiE "$alone" "$work/log"; then
            skip "$name: a mirror of packages cannot be reached"
        fi
        fail "$name"
    fi
    say "$name"
}

inside() {
    work=$1
    root=$work/root
    told="" line=""
    set -E
    trap 'line=$LINENO' ERR
    trap '[ $? -eq 0 ] || [ -n "$told" ] || fail "a command of line $line"' EXIT
    mkdir -p "$work/src" "$work/wheels"
    # nspawn leaves a folder for each of its machines here.
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs tmpfs /run/systemd/nspawn
    lay_sources
    prepare "root made" make_root
    prepare "packages fetched" fetch_packages
    boot
    try_refusals
    try_from_nothing
    try_again
    try_other_settings
    try_broken
    [ -n "$shim" ] || try_firewall
    if [ -z "$shim" ] && [ -n "$caddy" ]; then
        try_caddy
        try_acme
    fi
    try_removal
    if [ -d "$work/src/0.1.0" ]; then try_update 0.1.0; else say "left out: no history that reaches back to 0.1.0"; fi
    if [ -d "$work/src/0.2.0" ]; then try_update_in_place; else say "left out: no history that reaches back to 0.2.0"; fi
    say "good${shim:+, but not booted: units were run by hand, firewall and Caddy are untried}"
}

# The newest commit that was this version and nothing newer.
commit_of() {
    local commit
    git -C "$tree" rev-parse -q --verify "v$1^{commit}" 2>/dev/null && return
    git -C "$tree" log --format=%H -- CHANGELOG.md 2>/dev/null | while read -r commit; do
        if git -C "$tree" show "$commit:CHANGELOG.md" | grep -m 1 '^## ' | grep -q "^## $1\( \|\$\)"; then
            echo "$commit"
            break
        fi
    done
}

lay_sources() {
    local version commit
    mkdir "$work/src/new"
    if [ -n "${SOURCE:-}" ]; then
        git -C "$tree" archive "$SOURCE" | tar -x -C "$work/src/new"
        cp "$here/install.sh" "$work/src/new/deploy/install.sh"
    else
        # With what must not be copied: the installation has to leave it.
        tar -c -C "$tree" --exclude='./.venv*' --exclude=./.git --exclude='./.*_cache' --exclude=./data . |
            tar -x -C "$work/src/new"
    fi
    mkdir -p "$work/src/new/.git" "$work/src/new/.venv" "$work/src/new/data"
    touch "$work/src/new/.git/junk" "$work/src/new/.venv/junk" "$work/src/new/data/resender.db" "$work/src/new/my.env"
    chmod -R go= "$work/src/new" # as a careful umask leaves it
    for version in 0.1.0 0.2.0; do
        commit=$(commit_of "$version") || true
        [ -n "$commit" ] || continue
        mkdir "$work/src/$version"
        git -C "$tree" archive "$commit" | tar -x -C "$work/src/$version"
        grep -q "\"$version\"" "$work/src/$version/resender/__init__.py" || fail "commit $commit is not $version"
    done
    # A new version that changes the database and then does not get ready.
    cp -a "$work/src/new" "$work/src/broken"
    cat >"$work/src/broken/run.py" <<'END'
import os, sqlite3, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resender.cli.main import main

if len(sys.argv) == 1:
    main(["log", "status"])  # brings the database up to date
    with sqlite3.connect(os.environ["RESENDER_DATA_DIR"] + "/resender.db") as database:
        database.execute("CREATE TABLE IF NOT EXISTS of_the_broken_one (id)")
        database.execute("DELETE FROM whitelist")
    sys.exit("it is broken")
sys.exit(main(sys.argv[1:]))
END
    [ ! -d "$work/src/0.2.0" ] || make_repository "$work/src/git" 0.2.0 broken new
}

# make_repository FOLDER VERSION...: a clone of the program, a commit and a branch for each.
make_repository() {
    local folder=$1 each
    git init -q "$folder"
    for each in "${@:2}"; do
        find "$folder" -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
        tar -c -C "$work/src/$each" --exclude=./.git --exclude=./.venv --exclude=./data . | tar -x -C "$folder"
        git -C "$folder" add -A
        git -C "$folder" -c user.name=test -c user.email=test@example.com -c commit.gpgsign=false commit -qm "$each"
        git -C "$folder" branch "$each"
    done
    chmod -R go=rX "$folder"
}

# --- a Debian of its own ----------------------------------------------------------------------------

make_root() {
    local sources=() file codename
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    if [ -n "${RELEASE:-}" ]; then
        codename=${RELEASE%% *} sources=("${RELEASE#* }")
    else
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
            # Those of others are of no use here, and need keys.
            [ ! -s "$file" ] || ! grep -q "$codename" "$file" || sources+=("$file")
        done
    fi
    apt-config dump Acquire | grep -E '^Acquire::(https?|Check-|Retries|ForceIPv)' >"$work/apt.conf" || true
    TMPDIR=$work mmdebstrap --mode=root --variant=minbase --include=apt,systemd-sysv,dbus,iproute2,util-linux,nftables,openssl \
        --aptopt="$work/apt.conf" --dpkgopt=force-unsafe-io "$codename" "$root" "${sources[@]}"
}

# Write what pip is set up with here as a pip.conf, and print the files and folders it names.
pip_setup() {
    local each found=""
    for each in "${PYTHON:-python3}" "$tree/.venv/bin/python" python3 /usr/bin/python3; do
        if "$each" -m pip --version >/dev/null 2>&1; then
            found=$each
            break
        fi
    done
    [ -n "$found" ] || { : >"$work/pip.conf" && return; }
    "$found" -m pip config list | "$found" -c '
import ast, os, sys

known = {
    "cert", "client-cert", "constraint", "default-timeout", "extra-index-url", "find-links", "index-url", "no-index",
    "proxy", "retries", "timeout", "trusted-host",
}
values, paths = {}, set()
for line in sys.stdin:
    name, _, value = line.strip().partition("=")
    section, _, name = name.rpartition(".")
    if name in known and section in ("global", "download", ":env:"):
        values[name] = ast.literal_eval(value)  # the environment comes last and wins
for value in values.values():
    for word in value.split():
        path = word.removeprefix("file://")
        if path.endswith("/simple") and os.path.isdir(path):
            path = os.path.dirname(path)  # an index in a folder leads to files beside it
        if path.startswith("/") and os.path.exists(path):
            paths.add(path)
with open(sys.argv[1], "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
    file.write("[global]\n")
    for name, value in values.items():
        file.write("{} = {}\n".format(name, "\n    ".join(value.splitlines())))
print("\n".join(sorted(paths)))
' "$work/pip.conf"
}

# What the installation will want is laid ready, so that the machine needs no network and no mirror: the packages where
# apt keeps what it has fetched, the wheels in a folder.
fetch_packages() {
    local path words=() name paths target
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!name:-}" ] || words+=("$name=${!name}")
    done
    rm -f "$root/etc/resolv.conf" # a link to nowhere on Ubuntu
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    cp "$work/apt.conf" "$root/etc/apt/apt.conf.d/99test"
    mkdir -p "$root/etc/ssl/certs" "$root/wheels" "$root/src"
    mount -t proc proc "$root/proc"
    chroot "$root" env "${words[@]}" apt-get update -q
    caddy=caddy
    chroot "$root" apt-cache show caddy >/dev/null || caddy="" # Ubuntu before 22.10
    chroot "$root" env "${words[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y install --download-only \
        --no-install-recommends python3 python3-venv ca-certificates ufw git $caddy
    # pip is wanted before the machine has it: in a second root above the first.
    mkdir -p "$work/upper" "$work/aside" "$work/pip"
    if ! mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/aside" overlay "$work/pip" 2>/dev/null; then
        umount "$root/proc"
        cp -a "$root/." "$work/pip"
        mount -t proc proc "$root/proc"
    fi
    mount -t proc proc "$work/pip/proc"
    # Not its service scripts: nothing of it is ever started.
    chroot "$work/pip" apt-get -q -y install --no-install-recommends python3-venv
    paths=$(pip_setup)
    [ ! -e "$bundle" ] || paths+=$'\n'$bundle
    while read -r path; do
        target=$work/pip$path
        if [ -d "$path" ]; then
            mkdir -p "$target"
        else
            mkdir -p "${target%/*}"
            : >"$target"
        fi
        mount --bind "$path" "$target"
    done < <(sed '/^$/d' <<<"$paths" | sort -u)
    cp "$work/pip.conf" "$work/pip/etc/pip.conf"
    mount --bind "$work/src" "$work/pip/src"
    mount --bind "$work/wheels" "$work/pip/wheels"
    chroot "$work/pip" python3 -m venv /venv
    for path in "$work"/src/{new,0.1.0,0.2.0}/requirements.txt; do
        [ -e "$path" ] || continue
        # Most of the old ones' are there then.
        chroot "$work/pip" /venv/bin/pip download -q --no-index --find-links=/wheels -d /wheels -r "${path#"$work"}" ||
            chroot "$work/pip" env "${words[@]}" HOME=/root /venv/bin/pip download -q \
                --disable-pip-version-check --only-binary=:all: --find-links=/wheels -d /wheels -r "${path#"$work"}"
    done
    umount -R "$work/pip" 2>/dev/null || umount -R --lazy "$work/pip" || true
    umount "$root/proc"
    printf '[global]\nno-index = true\nfind-links = /wheels\n' >"$root/etc/pip.conf"
    rm -f "$root/etc/resolv.conf" "$root/etc/apt/apt.conf.d/99test"
    : >"$root/etc/resolv.conf"
    # apt-get update finds nobody; it need not try for long.
    printf '%s\n' 'Acquire::Retries "0";' 'APT::Install-Recommends "0";' >"$root/etc/apt/apt.conf.d/99test"
    mv "$work/wheels"/* "$root/wheels/"
    mv "$work/src" "$root/srv/trial"
    ln -s "$root/srv/trial" "$work/src"
}

boot() {
    local i machine nest=${work##*/}
    shim=""
    if [ "${MODE:-}" != chroot ]; then
        # A group of processes of its own: other machines may be running.
        if [ ! -d /run/systemd/system ]; then
            for i in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
                if [ -w "$i/cgroup.procs" ] && mkdir -p "$i/$nest" 2>/dev/null; then echo 0 >"$i/$nest/cgroup.procs" || :; fi
            done
        fi
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --boot --directory="$root" \
            --machine="$nest" --private-network --timezone=off --resolv-conf=off --console=pipe \
            >"$work/console" 2>&1 </dev/null &
        machine=$!
        for ((i = 0; i < 300; i++)); do
            kill -0 "$machine" 2>/dev/null || break
            if find_first "$machine" && within_a_while; then
                say "booted: $(in_machine sh -c 'systemctl --version | head -1')"
                return
            fi
            sleep 0.2
        done
        kill -9 "$machine" 2>/dev/null || :
        echo "systemd-nspawn boots nothing on this machine: $(tail -1 "$work/console")"
    fi
    echo "The root is entered without being booted; units are run by hand."
    make_shim
    unshare --net --uts --ipc --mount --pid --fork --kill-child sh -c '
        mount --bind "$1" "$1" && cd "$1" && mount --make-private "$1" || exit
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/run" || exit
        mkdir -p "$1/run/systemd/system" "$1/run/lock"
        ip link set lo up 2>/dev/null || chroot "$1" ip link set lo up
        exec chroot "$1" sleep infinity' - "$root" >"$work/console" 2>&1 &
    machine=$!
    shim=yes
    for ((i = 0; i < 50; i++)); do
        if find_first "$machine" && in_machine test -d /run/systemd/system 2>/dev/null; then return; fi
        sleep 0.1
    done
    skip "neither booting nor entering a root works on this machine: $(tail -1 "$work/console")"
}

# Find the first process of the machine.
find_first() {
    local file
    file=$(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | head -1) || true
    first=${file#/proc/}
    first=${first%/status}
    [ -n "$first" ]
}

within_a_while() { in_machine systemctl is-system-running 2>/dev/null | grep -q 'running\|degraded'; }

in_machine() {
    timeout 300 nsenter --target="$first" --mount --uts --ipc --net --pid --root --wd env -i -C / \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
}

# Stands in for systemctl and journalctl where nothing is booted: it reads the unit and does what it says by hand.
make_shim() {
    cat >"$root/usr/local/bin/systemctl" <<'END'
#!/bin/sh
# Maintainer scripts call it before there is a Python.
[ -x /usr/bin/python3 ] || exit 0
exec python3 -I /usr/local/lib/shim.py "$@"
END
    cat >"$root/usr/local/bin/journalctl" <<'END'
#!/bin/sh
cat /run/shim/binance-resender.log 2>/dev/null
END
    printf '#!/bin/sh\nexit 0\n' >"$root/usr/local/bin/systemd-detect-virt"
    chmod 755 "$root"/usr/local/bin/*
    cat >"$root/usr/local/lib/shim.py" <<'END'
import os, pathlib, re, shlex, signal, socket, subprocess, sys, time

STATE = pathlib.Path("/run/shim")
STATE.mkdir(exist_ok=True)
UNITS = pathlib.Path("/etc/systemd/system")


def put(name, **values):
    for key, value in values.items():
        (STATE / f"{name}.{key}").write_text(str(value))


def get(name, key, default=""):
    path = STATE / f"{name}.{key}"
    return path.read_text() if path.exists() else default


def read(name):
    lines = (UNITS / f"{name}.service").read_text().splitlines()
    for drop_in in sorted((UNITS / f"{name}.service.d").glob("*.conf")):
        lines += drop_in.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match("[A-Z][A-Za-z]+=", line))


def run(name, unit, notify):
    import pwd

    user = pwd.getpwnam(unit["User"])
    for folder in unit.get("StateDirectory", "").split():
        path = pathlib.Path("/var/lib") / folder
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, user.pw_uid, user.pw_gid)
    sys.path.insert(0, "/")
    environment = {"PATH": "/usr/bin:/bin", "HOME": user.pw_dir}
    for line in pathlib.Path(unit["EnvironmentFile"]).read_text().splitlines():
        if "=" in line and line[0] not in "#;":
            environment.update([line.split("=", 1)])
    if notify:
        environment["NOTIFY_SOCKET"] = notify
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    for capability in unit.get("AmbientCapabilities", "").lower().split():
        capability = capability.removeprefix("cap_")
        command += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
    with open(STATE / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            command + shlex.split(unit["ExecStart"]), cwd=unit["WorkingDirectory"], env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, umask=0o077,
        )


def supervise(name):
    unit = read(name)
    notify, heard = "", None
    if unit.get("Type") == "notify":
        notify = f"@shim-{name}-{os.getpid()}"
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.bind("\0" + notify[1:])
        heard.settimeout(0.1)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    put(name, pid=os.getpid(), NRestarts=0)
    while True:
        process = run(name, unit, notify)
        put(name, ExecMainStartTimestamp=time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime()))
        put(name, MainPID=process.pid, ActiveState="activating" if notify else "active")
        told = False
        while process.poll() is None:
            if stopping and not told:
                process.terminate()
                told = True
            try:
                if heard and b"READY=1" in heard.recv(65536):
                    put(name, ActiveState="active")
            except TimeoutError:
                pass
            if not heard:
                time.sleep(0.1)
        put(name, MainPID=0)
        if stopping or process.returncode == 0:
            return put(name, ActiveState="inactive")
        if process.returncode == int(unit.get("RestartPreventExitStatus", -1)):
            return put(name, ActiveState="failed")
        put(name, ActiveState="activating", NRestarts=int(get(name, "NRestarts", "0")) + 1)
        for _ in range(int(unit.get("RestartSec", "1")) * 10):
            time.sleep(0.1)
            if stopping:
                return put(name, ActiveState="inactive")


def stop(name):
    if get(name, "ActiveState", "inactive") in ("active", "activating"):
        os.kill(int(get(name, "pid")), signal.SIGTERM)
        while get(name, "ActiveState") in ("active", "activating"):
            time.sleep(0.1)


def start(name, waits):
    unit = read(name)
    if unit.get("Type") == "oneshot":
        return run(name, unit, "").wait()
    if get(name, "ActiveState", "inactive") in ("active", "activating"):
        return 0
    put(name, ActiveState="activating")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.closerange(3, 64)
            supervise(name)
        os._exit(0)
    os.wait()
    while waits and get(name, "ActiveState") == "activating":
        time.sleep(0.1)
    return get(name, "ActiveState") not in ("active", "activating")


flags = [word for word in sys.argv[1:] if word.startswith("-")]
words = [word for word in sys.argv[1:] if not word.startswith("-")]
if "-p" in flags:
    key = words.pop(1)
    print(get(words[1].removesuffix(".service"), key, "inactive" if key == "ActiveState" else ""))
    sys.exit()
verb, names = words[0], [word.removesuffix(".service") for word in words[1:]]
for name in names:
    now = "--now" in flags
    if name.endswith((".timer", "backup")) and verb not in ("start", "enable", "is-enabled", "disable"):
        continue
    if verb == "is-active":
        sys.exit(get(name, "ActiveState", "inactive") != "active")
    if verb == "is-enabled":
        print(get(name, "enabled", "disabled"))
    if verb in ("enable", "disable"):
        put(name, enabled=verb + "d")
    if name.endswith(".timer"):
        continue
    if verb in ("stop", "restart") or verb == "disable" and now:
        stop(name)
    if verb in ("start", "restart") or verb == "enable" and now:
        sys.exit(start(name, "--no-block" not in flags))
END
}

# --- what is tried ----------------------------------------------------------------------------------

# install CODE SOURCE [OPTION...]: call it and see how it ends; what it says is in $work/said.
install() {
    local expected=$1 from=$2 code=0
    shift 2
    case $from in /*) ;; *) from=/srv/trial/$from ;; esac
    in_machine env SSH_CONNECTION='198.51.100.7 50000 192.0.2.9 2222' sh "$from/deploy/install.sh" "$@" \
        >"$work/said" 2>&1 </dev/null || code=$?
    [ "$code" -eq "$expected" ] || fail "install.sh $* of $from ended with $code"
}

# wait_for SECONDS COMMAND ...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

says() { grep -qF -e "$1" "$work/said" || fail "it does not say: $1"; }
is() { [ "$1" = "$2" ] || fail "$3: $1 instead of $2"; }

python() { in_machine python3 -I -c "$@" </dev/null; }

# ask URL: status and beginning of the answer.
ask() {
    python '
import ssl, sys, urllib.request as u

context = ssl._create_unverified_context()
try:
    answer = u.build_opener(u.HTTPSHandler(context=context)).open(sys.argv[1], timeout=10)
except u.HTTPError as error:
    answer = error
except OSError as error:
    sys.exit(print("none", error))
print(answer.status, answer.read(60).decode())' "$1"
}

login() {
    python '
import json, sys, urllib.request as u

request = u.Request(sys.argv[1] + "/admin/api/login", json.dumps({"username": "root", "password": sys.argv[2]}).encode())
print(u.urlopen(request, timeout=20).status)' "$1" "$2" 2>&1 | tail -1
}

main_pid() { in_machine systemctl show -p MainPID --value binance-resender; }

# Everything of it with owner, mode, size and time, but what a running gateway writes.
everything() {
    in_machine find /opt /etc /usr/local /var/backups /var/lib/binance-resender-backup -xdev \
        ! -name '*.pyc' -printf '%p %y %m %u:%g %s %T@\n' 2>/dev/null | sort || true
}

# Files of it outside of the program: an update that is taken back leaves no trace there.
elsewhere() { everything | grep -v '^/opt\|^/var/backups\| d '; }

rows() {
    python '
import sqlite3

database = sqlite3.connect("file:/var/lib/binance-resender/resender.db?mode=ro", uri=True)
print(sorted(row[0] for row in database.execute("SELECT name FROM sqlite_master")))
print(database.execute("SELECT address, note, enabled FROM whitelist ORDER BY address").fetchall())'
}

try_refusals() {
    local code=0
    in_machine setpriv --reuid=65534 --regid=65534 --clear-groups sh -s -- --whitelist 203.0.113.5 \
        <"$here/install.sh" >"$work/said" 2>&1 || code=$?
    is "$code" 2 "not root"
    says "Call it as root"
    code=0
    printf 'ID=plan9\nPRETTY_NAME="Plan 9"\n' >"$root/srv/os-release"
    in_machine unshare --mount sh -c 'mount --bind /srv/os-release /usr/lib/os-release
        sh /srv/trial/new/deploy/install.sh --yes --language zh' >"$work/said" 2>&1 </dev/null || code=$?
    is "$code" 2 "unknown distribution"
    says "不支持 Plan 9"
    code=0
    printf 'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n' >"$root/srv/os-release"
    in_machine unshare --mount sh -c 'mount --bind /srv/os-release /usr/lib/os-release
        sh /srv/trial/new/deploy/install.sh --yes' >"$work/said" 2>&1 </dev/null || code=$?
    is "$code" 2 "old distribution"
    says "Debian 11 is too old"
    code=0
    in_machine unshare --mount sh -c 'mount -t tmpfs -o size=20m tmpfs /opt
        sh /srv/trial/new/deploy/install.sh --yes' >"$work/said" 2>&1 </dev/null || code=$?
    is "$code" 2 "full disk"
    says "The disk is too full: /opt"
    install 2 new --whitelist 203.0.113.5 --port 70000
    install 2 new --uninstall
    in_machine test ! -e /opt/binance-resender || fail "something was installed"
    in_machine test ! -e /usr/bin/python3 || fail "packages were installed"
    say "refusals"
}

try_from_nothing() {
    local password
    # On a terminal, in Chinese, with answers: one address, no domain, go on.
    printf '203.0.113.5 2001:db8::/32\n\ny\n' | in_machine env LANG=zh_CN.UTF-8 \
        SSH_CONNECTION='198.51.100.7 50000 192.0.2.9 2222' script -qec 'sh /srv/trial/new/deploy/install.sh' /dev/null \
        >"$work/said" 2>&1 || fail "it cannot be installed"
    says "你是从 198.51.100.7 连接进来的"
    says "203.0.113.5 可以调用了"
    says "ssh -L 8000:127.0.0.1:8000 -p 2222 root@192.0.2.9"
    says "安装本身已经完成" # no upstream can be reached here
    [ -n "$shim" ] || says "ufw allow 2222/tcp"
    is "$(grep -c '登录用户 root，密码' "$work/said")" 1 "how often the password is shown"
    password=$(sed -n 's/.*登录用户 root，密码  \([^ ]*\) .*/\1/p' "$work/said")
    is "$(login http://127.0.0.1:8000 "$password")" 200 "log-in with the password shown"
    is "$(ask http://127.0.0.1:8000/healthz)" '200 {"status":"ok"}' "health"
    is "$(ask http://127.0.0.1:8000/api/v3/time | cut -c 1-3)" 403 "a stranger"
    in_machine resender whitelist list >"$work/log" 2>&1
    is "$(awk '{ print $1, $2 }' "$work/log" | sort | tr '\n' ' ')" "2001:db8::/32 on 203.0.113.5 on " "whitelist"
    look_at_files
    is "$(in_machine systemctl is-enabled binance-resender binance-resender-backup.timer | sort -u)" enabled "units"
    in_machine systemctl start binance-resender-backup.service || fail "the backup does not work"
    is "$(in_machine sh -c 'stat -c "%a %U" /var/lib/binance-resender-backup/*')" "600 resender" "the backup"
    say "installed from nothing"
}

look_at_files() {
    local path expected found
    while read -r path expected; do
        is "$(in_machine stat -c '%U:%G:%a' "$path")" "$expected" "$path"
    done <<'END'
/opt/binance-resender root:root:755
/opt/binance-resender/run.py root:root:644
/opt/binance-resender/resender root:root:755
/etc/binance-resender.env root:root:600
/usr/local/sbin/resender root:root:755
/etc/systemd/system/binance-resender.service root:root:644
/etc/systemd/system/binance-resender-backup.timer root:root:644
/var/lib/binance-resender resender:resender:700
/var/lib/binance-resender/resender.db resender:resender:600
END
    found=$(in_machine find /opt/binance-resender ! -type l \( ! -user root -o ! -group root -o -perm /022 -o ! -perm -044 \))
    is "$found" "" "files of the program that are not as they should be"
    found=$(in_machine find /opt -maxdepth 2 -mindepth 1 \( -name .git -o -name data -o -name my.env -o -name tests -o -name '*.new' -o -name '*.old' \))
    is "$found" "" "files that do not belong there"
    in_machine test ! -e /opt/binance-resender/.venv/junk || fail "the environment of the source was copied"
    in_machine test -e "/opt/binance-resender/resender/__pycache__" || fail "there is no bytecode"
    is "$(in_machine stat -c %U "/proc/$(main_pid)")" resender "user of the process"
}

try_again() {
    local before pid
    before=$(everything) pid=$(main_pid)
    install 0 new --whitelist 203.0.113.5 --yes
    ! grep -q '^==>' "$work/said" || fail "it did something the second time"
    diff <(echo "$before") <(everything) >"$work/log" || fail "the second time files change"
    is "$(main_pid)" "$pid" "process after the second time"
    say "second time: nothing changes"
}

try_other_settings() {
    local env
    in_machine sh -c 'echo "# mine" >>/etc/binance-resender.env'
    # Of the owner's own; it also has a broken version given up sooner.
    in_machine sh -c 'mkdir /etc/systemd/system/binance-resender.service.d
        printf "[Service]\nRestartSec=1\n" >/etc/systemd/system/binance-resender.service.d/own.conf'
    in_machine openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gw.example -keyout /root/key.pem -out /root/cert.pem \
        >"$work/log" 2>&1 </dev/null || fail "certificate"
    install 2 new --yes --tls-cert /root/cert.pem --tls-key /etc/passwd
    install 2 new --yes --whitelist 203.0.113.7/24
    install 0 new --yes --port 443 --tls-cert /root/cert.pem --tls-key /root/key.pem --domain gw.example --whitelist 203.0.113.6
    says "https://gw.example"
    says "install -o root -g resender -m 640 /root/key.pem /etc/binance-resender/tls-key.pem"
    is "$(ask https://127.0.0.1/healthz)" '200 {"status":"ok"}' "health over TLS on port 443"
    is "$(in_machine stat -c '%U:%G:%a' /etc/binance-resender/tls-key.pem)" root:resender:640 "the key"
    env=$(in_machine cat /etc/binance-resender.env)
    is "$(grep -cx -e '# mine' -e RESENDER_PORT=443 <<<"$env")" 2 "lines of the settings"
    is "$(in_machine stat -c %a /etc/binance-resender.env)" 600 "mode of the settings"
    say "other port, TLS of its own"
}

falls() { in_machine journalctl -q -u binance-resender -o cat | grep -c "it is broken" || :; }

try_broken() {
    local before env fallen
    before=$(rows) env=$(elsewhere)
    install 1 broken --yes
    says "Taken back: version"
    says "it is broken"
    is "$(rows)" "$before" "database"
    diff <(echo "$env") <(elsewhere) >"$work/log" || fail "files outside of the program change"
    is "$(ask https://127.0.0.1/healthz)" '200 {"status":"ok"}' "health after going back"
    ! in_machine grep -q "it is broken" /opt/binance-resender/run.py || fail "the program is the broken one"
    is "$(in_machine find /opt -maxdepth 1 -name 'binance-resender?*')" "" "folders left behind"
    # One that is cut short in its middle, as by a loss of power: the next run puts back what it left.
    [ -n "$shim" ] || fallen=$(falls)
    in_machine sh -c 'sh /srv/trial/broken/deploy/install.sh --yes & echo $! >/root/pid; wait' >"$work/said" 2>&1 </dev/null &
    until grep -q Starting "$work/said" || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
    # It has been started and has changed the database, and is waited for a second time.
    if [ -n "$shim" ]; then sleep 1; else
        until [ "$(falls)" -gt "$fallen" ] || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
    fi
    in_machine sh -c 'kill -KILL "$(cat /root/pid)"'
    wait $! || true
    in_machine test -d /opt/binance-resender.old || fail "it was not in its middle"
    install 0 new --yes
    says "An update was cut short"
    is "$(rows)" "$before" "database after an update that was cut short"
    is "$(ask https://127.0.0.1/healthz)" '200 {"status":"ok"}' "health after an update that was cut short"
    install 0 new --yes
    ! grep -q '^==>' "$work/said" || fail "after going back something was to be done"
    say "a broken version is taken back"
}

try_firewall() {
    local rule
    in_machine sh -c 'cat >/etc/nftables.conf' <<'END'
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    tcp dport 2222 accept
  }
}
END
    in_machine systemctl start nftables || { say "left out: no nftables in this kernel" && return; }
    install 0 new --yes
    for rule in reload restart; do
        in_machine nft list ruleset >"$work/log"
        grep -q 'tcp dport 443 ip saddr { 198.51.100.7, 203.0.113.5, 203.0.113.6 } accept comment "binance-resender"' "$work/log" ||
            fail "the closed chain lets nobody in"
        is "$(grep -c 'tcp dport 443 drop' "$work/log")" 1 "rules against strangers"
        is "$(grep -c 'tcp dport 2222 accept' "$work/log")" 1 "rules for SSH"
        in_machine systemctl "$rule" nftables
        sleep 1
    done
    install 0 new --yes
    ! grep -q '^==>' "$work/said" || fail "the firewall is changed each time"
    in_machine systemctl stop nftables
    in_machine systemctl disable --now binance-resender-firewall.service >"$work/log" 2>&1
    in_machine apt-get -qq -y install ufw >"$work/log" 2>&1 </dev/null || fail "ufw"
    install 0 new --yes --whitelist 203.0.113.9
    says "ufw enable"
    # The owner's address is remembered where nobody is connected.
    in_machine sh /srv/trial/new/deploy/install.sh --yes >"$work/said" 2>&1 </dev/null || fail "without SSH"
    ! grep -q '^==>' "$work/said" || fail "without SSH the firewall is another"
    in_machine ufw show added >"$work/log"
    for rule in "allow 2222/tcp" "allow from 203.0.113.9 to any port 443 proto tcp comment 'binance-resender'" \
        "allow from 2001:db8::/32 to any port 443 proto tcp comment 'binance-resender'"; do
        grep -qx "ufw $rule" "$work/log" || fail "ufw has no rule: $rule"
    done
    if in_machine ufw --force enable >"$work/log" 2>&1; then
        is "$(ask https://127.0.0.1/healthz)" '200 {"status":"ok"}' "health behind ufw"
        in_machine ufw status | grep -q '^2222/tcp *ALLOW' || fail "SSH is locked out"
    fi
    in_machine resender whitelist remove 203.0.113.9 >"$work/log" 2>&1
    install 0 new --yes
    in_machine ufw show added >"$work/log"
    ! grep -q 203.0.113.9 "$work/log" || fail "ufw still lets in who may not call"
    say "firewalls: nftables and ufw"
}

try_caddy() {
    install 2 new --yes --domain gateway.localhost --tls-cert /root/nothing
    install 2 new --yes --domain gateway.localhost --port 8001
    says "RESENDER_TLS_CERT is set"
    install 0 new --uninstall --keep-data --yes
    in_machine sed -i '/TLS_/d' /etc/binance-resender.env
    install 0 new --yes --domain gateway.localhost --port 8001
    says "https://gateway.localhost/admin"
    says "203.0.113.6" # the whitelist of before
    in_machine sh -c 'grep -q gateway.localhost /etc/hosts || echo 127.0.0.1 gateway.localhost >>/etc/hosts'
    is "$(ask https://gateway.localhost/healthz)" '200 {"status":"ok"}' "health through Caddy"
    is "$(ask https://gateway.localhost/api/v3/time | cut -c 1-3)" 403 "a stranger through Caddy"
    in_machine systemctl show -p MainPID --value binance-resender >"$work/log"
    install 0 new --yes --domain gateway.localhost
    ! grep -q '^==>' "$work/said" || fail "Caddy is set up each time"
    say "HTTPS by Caddy, on data that was kept"
}

# An authority that looks whether the name leads here before it vouches for it, as Let's Encrypt does: another Caddy
# is one. Which one is asked is the owner's choice in the Caddyfile, and stays.
try_acme() {
    local cert=/root/acme/pki/authorities/local/root.crt
    in_machine sh -c 'mkdir /root/acme; echo 127.0.0.1 acme.localhost gateway.acme.test >>/etc/hosts; cat >/root/acme/Caddyfile' <<'END'
{
	admin off
	http_port 9080
	https_port 9443
	skip_install_trust
	storage file_system /root/acme
}

acme.localhost {
	acme_server
}
END
    in_machine systemd-run -q --unit acme caddy run --config /root/acme/Caddyfile --adapter caddyfile
    wait_for 30 in_machine test -s "$cert" || fail "the authority does not start"
    in_machine sh -c "cat $cert >/etc/caddy/acme.pem
        printf '{\n\tacme_ca https://acme.localhost:9443/acme/local/directory\n\tacme_ca_root /etc/caddy/acme.pem\n}\n\n' |
            cat - /etc/caddy/Caddyfile >/root/acme/new && cat /root/acme/new >/etc/caddy/Caddyfile"
    install 0 new --yes --domain gateway.acme.test
    says "https://gateway.acme.test/admin"
    ! grep -q "There is no certificate" "$work/said" || fail "there is no certificate"
    is "$(trusting /etc/caddy/acme.pem gateway.acme.test)" "200 gateway.acme.test" "what the authority vouches for"
    install 0 new --yes
    ! grep -q '^==>' "$work/said" || fail "Caddy is set up each time"
    in_machine systemctl stop acme
    in_machine rm -rf /root/acme /etc/caddy/acme.pem
    say "HTTPS by Caddy with a certificate over ACME"
}

# trusting FILE NAME: the status of its health and the name of its certificate, if an authority of the file vouches.
trusting() {
    python '
import http.client, ssl, sys

connection = http.client.HTTPSConnection(sys.argv[2], timeout=10, context=ssl.create_default_context(cafile=sys.argv[1]))
connection.request("GET", "/healthz")
shown = connection.sock.getpeercert()
print(connection.getresponse().status, shown["subjectAltName"][0][1])' "$1" "$2"
}

try_removal() {
    local found
    install 0 new --uninstall --keep-data --yes
    in_machine test -s /var/lib/binance-resender/resender.db || fail "the data was not kept"
    in_machine test ! -e /opt/binance-resender || fail "the program is still there"
    install 0 new --uninstall --yes
    found=$(in_machine find / -xdev \( -path /srv/trial -o -path /proc -o -path /var/log -o -path /run/shim -o -path /wheels \) -prune -o \
        \( -iname '*binance*resender*' -o -path /usr/local/sbin/resender -o -nouser \) -print)
    is "$found" "" "what is left"
    ! in_machine getent passwd resender || fail "the user is left"
    [ -n "$shim" ] || is "$(in_machine sh -c 'grep -rl --exclude="*-" binance-resender /etc; ufw show added | grep binance')" "" \
        "what is left in /etc"
    is "$(ask http://127.0.0.1:8000/healthz | cut -c 1-4)" none "health after removal"
    say "removed without a rest"
}

# set_up_by_hand VERSION [FOLDER]: as the documentation of that version says.
set_up_by_hand() {
    in_machine sh -eu -c '
        useradd --system --user-group --home-dir /var/lib/binance-resender --shell /usr/sbin/nologin resender
        install -d -o resender -g resender -m 700 /var/lib/binance-resender
        cp -r "/srv/trial/$2" /opt/binance-resender
        cd /opt/binance-resender
        [ ! -d .git ] || git checkout -q --detach "$1"
        python3 -m venv .venv
        .venv/bin/pip install -q --disable-pip-version-check --no-compile -r requirements.txt
        [ -d .git ] || sed -i "s/^MAX_IN_FLIGHT = .*/MAX_IN_FLIGHT = 500  # mine/" settings.py
        install -m 600 deploy/binance-resender.env /etc/binance-resender.env
        echo RESENDER_LOG_RETENTION_DAYS=7 >>/etc/binance-resender.env
        install -m 755 deploy/resender /usr/local/sbin/resender
        resender whitelist add 203.0.113.77 --note "from before"
        resender log on
        mkdir /etc/systemd/system/binance-resender.service.d
        printf "[Service]\nRestartSec=1\n" >/etc/systemd/system/binance-resender.service.d/own.conf
        cp deploy/binance-resender.service /etc/systemd/system/
        systemctl daemon-reload
        systemctl enable --now binance-resender' - "$1" "${2:-$1}" >"$work/log" 2>&1 </dev/null || fail "version $1 cannot be set up"
    local i
    for ((i = 0; i < 100; i++)); do
        if [ "$(ask http://127.0.0.1:8000/healthz)" = '200 {"status":"ok"}' ]; then return; fi
        sleep 0.2
    done
    fail "version $1 does not serve"
}

try_update() {
    local version=$1 saved old_env old_rows
    set_up_by_hand "$version"
    old_env=$(in_machine cat /etc/binance-resender.env) old_rows=$(rows | tail -1)
    install 0 new --yes
    says "What needs your attention (CHANGELOG.md):"
    says "tried on a copy, it works"
    is "$(ask http://127.0.0.1:8000/healthz)" '200 {"status":"ok"}' "health after the update"
    is "$(rows | tail -1)" "$old_rows" "whitelist after the update"
    in_machine resender log status 2>&1 | grep -q 'log is on' || fail "the request log is off"
    is "$(in_machine cat /etc/binance-resender.env)" "$old_env" "settings"
    in_machine grep -qx 'MAX_IN_FLIGHT = 500' /opt/binance-resender/settings.py || fail "settings.py lost what was changed"
    in_machine grep -qx 'CLIENT_IDLE_S = 330' /opt/binance-resender/settings.py || fail "settings.py kept an old default"
    in_machine grep -q Type=notify /etc/systemd/system/binance-resender.service || fail "the unit is the old one"
    in_machine cmp -s /usr/local/sbin/resender /srv/trial/new/deploy/resender || fail "the wrapper is the old one"
    is "$(in_machine systemctl is-enabled binance-resender-backup.timer)" enabled "the backups"
    saved=$(in_machine sh -c 'echo /var/backups/binance-resender/before-*')
    is "$(in_machine stat -c %a "$saved" "$saved/resender.db" | tr '\n' ' ')" "700 600 " "modes of the backup"
    in_machine tar -xzOf "$saved/program.tar.gz" binance-resender/resender/__init__.py | grep -q "\"$version\"" ||
        fail "the program of before is not saved"
    # What had no accounts gets one.
    says "Log in as root with the password"
    install 0 new --uninstall --yes
    say "updated from $version"
}

# The service runs out of a clone, which is brought to another commit as `git pull` does it.
try_update_in_place() {
    local before state pid place=/opt/binance-resender
    in_machine apt-get -qq -y install git >"$work/log" 2>&1 </dev/null || fail "git"
    set_up_by_hand 0.2.0 git
    before=$(rows) state=$(elsewhere)
    in_machine git -C "$place" merge -q --ff-only broken >"$work/log" 2>&1
    install 1 "$place" --yes
    says "Taken back: version 0.2.0 serves again"
    diff <(echo "$state") <(elsewhere) >"$work/log" || fail "files outside of the program change"
    is "$(in_machine git -C "$place" rev-parse HEAD)" "$(in_machine git -C "$place" rev-parse 0.2.0)" "commit after going back"
    # Its schema is the old one, too.
    is "$(rows)" "$before" "database after going back"
    is "$(ask http://127.0.0.1:8000/healthz)" '200 {"status":"ok"}' "health after going back"
    before=$(tail -1 <<<"$before")
    in_machine git -C "$place" merge -q --ff-only new >"$work/log" 2>&1
    install 0 "$place" --yes
    is "$(ask http://127.0.0.1:8000/healthz)" '200 {"status":"ok"}' "health after the update"
    is "$(rows | tail -1)" "$before" "whitelist after the update"
    pid=$(main_pid)
    install 0 "$place" --yes
    ! grep -q '^==>' "$work/said" || fail "it did something the second time"
    is "$(main_pid)" "$pid" "process after the second time"
    is "$(in_machine git -C "$place" status --porcelain)" "" "what git sees"
    install 0 "$place" --uninstall --yes
    in_machine test ! -e "$place" || fail "the program is still there"
    say "updated from 0.2.0 in its clone"
}

if [ "${1:-}" = --inside ]; then
    inside "$2"
else
    outside
fi
