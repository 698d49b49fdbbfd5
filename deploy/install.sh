#!/bin/sh
# Installs Binance Resender as a service of this machine, or brings it up to date:
#
#   sudo sh deploy/install.sh --whitelist 203.0.113.5
#
# It does what docs/start/install.md does by hand; --help lists what it can be told. Called again it changes what is
# to be changed, and nothing else. A new version that does not get ready is taken back, with its database.
# Exit code: 0 done, 1 failed, 2 wrong use or a machine it cannot work on, 130 and 143 interrupted.
set -eu
umask 022

readonly PROGRAM=/opt/binance-resender
readonly SETTINGS=/etc/binance-resender.env
readonly WRAPPER=/usr/local/sbin/resender
readonly UNITS=/etc/systemd/system
readonly SERVICE=binance-resender
readonly PERSON=resender
readonly DATA=/var/lib/binance-resender
readonly BACKUPS=/var/lib/binance-resender-backup # of the timer
readonly BEFORE=/var/backups/binance-resender     # of updates
readonly TLS=/etc/binance-resender
readonly PORT_DROP_IN=$UNITS/$SERVICE.service.d/install-port.conf
readonly CADDYFILE=/etc/caddy/Caddyfile
readonly CADDY_SITE=/etc/caddy/binance-resender.caddy
readonly NFT_TABLE=/etc/binance-resender.nft
readonly NFT_ACCEPT=/etc/binance-resender-accept.nft
readonly NFT_UNIT=binance-resender-firewall.service
# What an update may have to put back, besides program and database.
readonly STATE="$SETTINGS $WRAPPER $UNITS/$SERVICE.service $UNITS/$SERVICE-backup.service $UNITS/$SERVICE-backup.timer
$PORT_DROP_IN $TLS/tls-cert.pem $TLS/tls-key.pem"
# What a server needs of the source. Named one by one: a database or an environment file that lies there must not
# be spread.
readonly NAMES="CHANGELOG.md LICENSE Makefile README.md README.zh-CN.md SECURITY.md admin_static deploy docs
pyproject.toml requirements.txt resender run.py settings.py"
readonly NEEDED_MB=400
readonly KEPT_BEFORE=3
# As TimeoutStartSec of the service: the upgrade of a large database is part of the start.
readonly READY_S=330
# How often a new version may end at its start before it is given up.
readonly STARTS=2
readonly PYTHON=/usr/bin/python3

# --- what it says, in two languages ----------------------------------------------------------------

# words ENGLISH CHINESE [ARGUMENT...]: the arguments take the places of %s.
words() {
    if [ "$language" = zh ]; then format=$2; else format=$1; fi
    shift 2
    # shellcheck disable=SC2059  # the formats are those of this file
    printf -- "$format\n" "$@"
}

# A terminal may be gone in the midst of it; the work goes on.
say() { words "$@" 2>/dev/null || :; }
step() {
    printf '==> ' 2>/dev/null || :
    say "$@"
}
note() {
    printf '  ! ' 2>/dev/null || :
    say "$@"
}

# wrong: refused before anything was changed. fail: something did not work.
wrong() {
    words "$@" >&2 || :
    exit 2
}
fail() {
    words "$@" >&2 || :
    exit 1
}

# ask ENGLISH CHINESE [ARGUMENT...]: one line from the terminal, in `answer`.
ask() {
    words "$@" | tr '\n' ' '
    answer=
    IFS= read -r answer || :
}

# confirm DEFAULT ENGLISH CHINESE [ARGUMENT...]: success for yes; y or n is what no answer means.
confirm() {
    default=$1
    shift
    ask "$@"
    case ${answer:-$default} in [yY]* | 是*) return 0 ;; *) return 1 ;; esac
}

usage() {
    say 'Usage: sudo sh deploy/install.sh [OPTIONS]

Installs Binance Resender as a service of this machine (Debian 12 or newer, Ubuntu 22.04 or newer), or brings it up
to date. On a terminal it asks for what it was not told. Called again it changes nothing that is as it should be.

  --whitelist ADDRESS   let this address or network call; may be repeated
  --port N              port of the gateway (8000)
  --domain NAME         HTTPS under this name: Caddy is installed in front, and fetches and renews the certificate;
                        with --tls-cert only the name that is shown
  --tls-cert FILE       HTTPS by the gateway itself, with this certificate and its chain (PEM)
  --tls-key FILE        the private key of it; without it the key is in the file of the certificate
  --no-firewall         leave the firewall alone
  --no-start            install, but do not start
  --language en|zh      language of these lines
  --yes                 ask nothing
  --uninstall           remove it; asks before it removes data, unless --yes
  --keep-data           with --uninstall: keep database, settings and backups
  --help                show this' '用法：sudo sh deploy/install.sh [选项]

把 Binance Resender 安装成本机的系统服务（Debian 12 及以上、Ubuntu 22.04 及以上），或把它升级。在终端里运行时，没有给出的会
询问。重复运行时，已经正确的不会改动。

  --whitelist 地址      允许这个地址或网段调用；可以写多次
  --port N              网关的端口（8000）
  --domain 域名         用这个域名提供 HTTPS：在前面安装 Caddy，由它申请并续期证书；
                        与 --tls-cert 同用时只是显示的名字
  --tls-cert 文件       由网关自己提供 HTTPS，用这个证书（含证书链，PEM）
  --tls-key 文件        证书的私钥；不写则私钥在证书文件里
  --no-firewall         不动防火墙
  --no-start            只安装，不启动
  --language en|zh      提示所用的语言
  --yes                 什么都不问
  --uninstall           卸载；删除数据前会询问，除非有 --yes
  --keep-data           与 --uninstall 同用：保留数据库、设置和备份
  --help                显示本说明'
}

# --- what it was told ------------------------------------------------------------------------------

needs_value() { [ "$2" -ge 2 ] || wrong '%s needs a value; --help shows how.' '%s 后面要有一个值；--help 有说明。' "$1"; }

parse() {
    language=en whitelist='' port='' domain='' tls_cert='' tls_key='' uninstall='' keep_data='' yes=''
    no_firewall='' no_start='' help=''
    case ${LC_ALL:-${LC_MESSAGES:-${LANG:-}}} in zh*) language=zh ;; esac
    # First, so that what is said about the others is in it.
    previous=
    for word in "$@"; do
        case $previous=$word in --language=en | --language=zh) language=$word ;; esac
        case $word in --language=en | --language=zh) language=${word#*=} ;; esac
        previous=$word
    done
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*)
            word=$1
            shift
            set -- "${word%%=*}" "${word#*=}" "$@"
            ;;
        esac
        case $1 in
        --whitelist | --port | --domain | --tls-cert | --tls-key | --language) needs_value "$1" $# ;;
        esac
        case $1 in
        --whitelist) whitelist="$whitelist $2" ;;
        --port) port=$2 ;;
        --domain) domain=$(printf %s "$2" | tr '[:upper:]' '[:lower:]') ;;
        --tls-cert) tls_cert=$2 ;;
        --tls-key) tls_key=$2 ;;
        --language) [ "$2" = en ] || [ "$2" = zh ] || wrong '--language is en or zh.' '--language 只能是 en 或 zh。' ;;
        --no-firewall) no_firewall=yes ;;
        --no-start) no_start=yes ;;
        --uninstall) uninstall=yes ;;
        --keep-data) keep_data=yes ;;
        --yes | -y) yes=yes ;;
        --help | -h) help=yes ;;
        *) wrong 'There is no option %s; --help lists all.' '没有 %s 这个选项；--help 列出全部。' "$1" ;;
        esac
        case $1 in
        --whitelist | --port | --domain | --tls-cert | --tls-key | --language) shift ;;
        esac
        shift
    done
    check_words
}

check_words() {
    [ -z "$keep_data" ] || [ -n "$uninstall" ] || wrong '--keep-data belongs to --uninstall.' '--keep-data 要与 --uninstall 同用。'
    [ -z "$tls_key" ] || [ -n "$tls_cert" ] || wrong '--tls-key belongs to --tls-cert.' '--tls-key 要与 --tls-cert 同用。'
    check_port
    check_domain
    check_whitelist
    for file in "$tls_cert" "$tls_key"; do
        [ -z "$file" ] || [ -r "$file" ] || wrong '%s cannot be read.' '读不了 %s。' "$file"
    done
    # Not their last link: a certificate is renewed behind it.
    case $tls_cert in '' | /*) ;; *) tls_cert=$(pwd)/$tls_cert ;; esac
    case $tls_key in '' | /*) ;; *) tls_key=$(pwd)/$tls_key ;; esac
}

check_port() {
    [ -n "$port" ] || return 0
    case $port in
    *[!0-9]* | 0* | ??????*) ;;
    *) if [ "$port" -le 65535 ]; then return 0; fi ;;
    esac
    wrong '--port is a number from 1 to 65535, not %s.' '--port 是 1 到 65535 的数，不是 %s。' "$port"
}

check_domain() {
    case $domain in
    '') ;;
    *[!a-z0-9.-]* | .* | -* | *..* | *.) bad_domain ;;
    *.*) ;;
    *) bad_domain ;;
    esac
}

bad_domain() {
    wrong '--domain is a name such as gateway.example.com, not %s.' '--domain 是 gateway.example.com 这样的域名，不是 %s。' "$domain"
}

# Only what keeps a word from being anything else; what it means is judged when Python is there.
check_whitelist() {
    for address in $whitelist; do
        case $address in
        -* | *[!a-zA-Z0-9.:/_-]*)
            wrong '--whitelist takes an address or a network such as 203.0.113.5 or 203.0.113.0/24, not %s.' \
                '--whitelist 是 203.0.113.5 或 203.0.113.0/24 这样的地址或网段，不是 %s。' "$address"
            ;;
        esac
    done
}

# --- the machine -----------------------------------------------------------------------------------

check_machine() {
    [ "$(id -u)" -eq 0 ] || wrong 'Call it as root: sudo sh %s' '请以 root 运行：sudo sh %s' "$0"
    [ -d /run/systemd/system ] ||
        wrong 'systemd does not run here, and the service needs it.' '这里没有运行 systemd，而服务需要它。'
    # One at a time; the lock is the folder itself, so that nothing stays.
    mkdir -p /opt
    exec 9</opt
    # What a run that was killed had started may hold it for a moment.
    flock -w 5 9 || wrong 'It is running already, in another terminal.' '它已经在另一个终端里运行。'
}

check_distribution() {
    [ -r /etc/os-release ] || unknown_distribution '/etc/os-release'
    # shellcheck source=/dev/null
    found=$(. /etc/os-release && printf '%s|%s|%s|%s' "${ID:-}" "${ID_LIKE:-}" "${VERSION_ID:-}" "${PRETTY_NAME:-}")
    name=${found##*|} id=${found%%|*}
    like=${found#*|} like=${like%%|*}
    version=${found%|*} version=${version##*|}
    case $id in
    debian) oldest=12 ;;
    ubuntu) oldest=22.04 ;;
    *)
        oldest=
        case " $like " in *' debian '* | *' ubuntu '*) ;; *) unknown_distribution "$name" ;; esac
        note '%s is untried, but like Debian: going on.' '没有在 %s 上试过，但它与 Debian 相近：继续。' "$name"
        ;;
    esac
    command -v apt-get >/dev/null 2>&1 || unknown_distribution "$name"
    # What is being prepared has no number yet.
    if [ -n "$oldest" ] && [ -n "$version" ] &&
        [ "$(printf '%s\n%s\n' "$oldest" "$version" | sort -V | head -n 1)" != "$oldest" ]; then
        wrong '%s is too old: Debian 12 or Ubuntu 22.04 is needed, for their Python.' \
            '%s 太旧：需要 Debian 12 或 Ubuntu 22.04，因为要用其中的 Python。' "$name"
    fi
}

unknown_distribution() {
    wrong '%s is not a distribution this can work on: it needs Debian 12 or Ubuntu 22.04, or newer.' \
        '这个脚本不支持 %s：需要 Debian 12、Ubuntu 22.04 或更新的版本。' "$1"
}

free_mb() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }

check_disk() {
    for folder in /opt /var/lib /var/backups; do
        # Only reading: some of them may not be there yet.
        [ -d "$folder" ] || continue
        needed=$NEEDED_MB
        [ "$folder" = /opt ] || needed=$((50 + 2 * database_mb))
        [ "$(free_mb "$folder")" -ge "$needed" ] || wrong 'The disk is too full: %s needs %s MB, %s MB are free.' \
            '磁盘空间不足：%s 需要 %s MB，只剩 %s MB。' "$folder" "$needed" "$(free_mb "$folder")"
    done
}

# --- who talks to it, and by which port of SSH -------------------------------------------------------

# sudo drops SSH_CONNECTION; one of the processes above has it.
ssh_connection() {
    process=$$ connection=${SSH_CONNECTION:-}
    while [ -z "$connection" ] && [ "$process" -gt 1 ]; do
        connection=$(tr '\0' '\n' <"/proc/$process/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p') || :
        process=$(awk '/^PPid:/ { print $2 }' "/proc/$process/status" 2>/dev/null) || :
        process=${process:-0}
    done
    # From there to here: address, port, address, port.
    # shellcheck disable=SC2086
    set -- $connection
    owner=${1:-} server=${3:-} ssh_here=${4:-}
    case $owner in *[!0-9a-fA-F:.]*) owner='' ;; esac
    [ -n "$server" ] || server=$(hostname -I 2>/dev/null | awk '{ print $1 }') || :
    server=${server:-SERVER}
}

# The ports that must stay open, whatever else is closed.
ssh_ports() {
    {
        [ -z "$ssh_here" ] || echo "$ssh_here"
        sshd=$(command -v sshd || echo /usr/sbin/sshd)
        if [ -x "$sshd" ]; then
            "$sshd" -T 2>/dev/null | awk '$1 == "port" { print $2 }' || :
            systemctl show -p Listen --value ssh.socket 2>/dev/null | sed -n 's/^.*:\([0-9]*\) (Stream)$/\1/p' || :
            [ -n "$ssh_here" ] || echo 22
        fi
    } | sort -un
}

# --- packages and Python -----------------------------------------------------------------------------

# Its output is shown only where it fails.
quietly() { "$@" >>"$work/log" 2>&1 </dev/null 9<&-; }

show_log() { tail -n "${1:-15}" "$work/log" | sed 's/^/    | /' >&2; }

is_installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

needed_packages() {
    wanted="python3 python3-venv ca-certificates"
    # In a container the clock is the host's.
    if ! systemd-detect-virt -q -c && [ "$(timedatectl show -p NTP --value 2>/dev/null)" != yes ]; then
        has_clock=
        for package in systemd-timesyncd chrony ntpsec ntp openntpd; do
            if is_installed "$package"; then has_clock=yes; fi
        done
        [ -n "$has_clock" ] || wanted="$wanted systemd-timesyncd"
    fi
    # shellcheck disable=SC2086
    install_packages $wanted
}

# install_packages NAME...: those that are missing.
install_packages() {
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    step 'Packages:%s' '安装软件包：%s' "$missing"
    # A machine's first minutes belong to its own updates.
    tries=30
    until [ -n "$lists_are_new" ] || quietly apt-get update -q; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ] || ! tail -n 5 "$work/log" | grep -qi 'could not get lock\|unable to lock'; then
            show_log
            fail 'The lists of packages cannot be fetched: is there a network?' '取不到软件包列表：网络通吗？'
        fi
        sleep 5
    done
    lists_are_new=yes
    case $missing in
    *caddy*) apt-cache show caddy >/dev/null 2>&1 || no_caddy ;;
    esac
    # shellcheck disable=SC2086
    if ! quietly env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing; then
        show_log
        fail 'The packages cannot be installed:%s' '软件包装不上：%s' "$missing"
    fi
}

no_caddy() {
    fail 'This system has no package of Caddy: take --tls-cert and --tls-key instead, or a newer system.' \
        '这个系统没有 Caddy 软件包：请改用 --tls-cert 和 --tls-key，或换更新的系统。'
}

check_python() {
    "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        wrong 'Python 3.10 or newer is needed; %s is %s.' '需要 Python 3.10 或更新；%s 是 %s。' \
            "$PYTHON" "$("$PYTHON" -V 2>&1)"
}

# What a shell cannot do well: reading settings as systemd does, addresses, databases, sockets.
write_helper() {
    # A copy: where the program is put back in place, its wrapper of before may know nothing of it.
    [ -z "$source" ] || cp "$source/deploy/resender" "$work/wrapper.py"
    cat >"$work/helper.py" <<'END'
import http.client, importlib.machinery, importlib.util, ipaddress, json, os, runpy, socket, sqlite3, ssl, subprocess
import sys

sys.dont_write_bytecode = True
OURS = "# --- by deploy/install.sh; what stands here wins over what stands above"


def read(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def read_settings(text):
    """The wrapper of the service reads as systemd does."""
    loader = importlib.machinery.SourceFileLoader("wrapper", os.path.dirname(__file__) + "/wrapper.py")
    wrapper = importlib.util.module_from_spec(importlib.util.spec_from_loader("wrapper", loader))
    loader.exec_module(wrapper)
    return wrapper.read_settings(text)


def setting(environment, settings, name, default):
    """The value in force: the environment goes before settings.py, an empty one is the default."""
    found = read_settings(read(environment)).get("RESENDER_" + name, "")
    if not found.strip() and os.path.exists(settings):
        found = runpy.run_path(settings).get(name) or ""
    found = ",".join(map(str, found)) if isinstance(found, (list, tuple)) else str(found)
    print(found.strip() or default)


def put(environment, *pairs):
    """Add settings at the end; what the user wrote stays. Says nothing where nothing is to be changed."""
    text = read(environment)
    wanted = dict(pair.split("=", 1) for pair in pairs)
    have = read_settings(text)
    wanted = {name: value for name, value in wanted.items() if have.get(name, "") != value}
    if not wanted:
        return
    lines = text.splitlines()
    if OURS not in lines:
        lines += ["", OURS]
    at = lines.index(OURS) + 1
    own = [line for line in lines[at:] if line.partition("=")[0] not in wanted]
    own += [name + "=" + value for name, value in wanted.items()]
    new = "\n".join(lines[:at] + own) + "\n"
    have = read_settings(new)
    if any(have.get(name) != value for name, value in wanted.items()):
        sys.exit(environment + ": a line before its end swallows what follows")
    number = os.open(environment + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(number, "w", encoding="utf-8") as file:
        file.write(new)
        file.flush()
        os.fsync(number)
    if os.path.exists(environment):
        status = os.stat(environment)
        os.chown(environment + ".new", status.st_uid, status.st_gid)
        os.chmod(environment + ".new", status.st_mode & 0o770)
    os.replace(environment + ".new", environment)
    print(", ".join(sorted(wanted)))


def entries(source, *addresses):
    """Judge entries of the whitelist as the program does, which need not be installed yet."""
    sys.path.insert(0, source)
    from resender.core.access import whitelist

    judge = getattr(whitelist, "normalise_entry", whitelist.normalise_address)
    for address in addresses:
        try:
            print(judge(address))
        except ValueError as error:
            sys.exit(str(error))


def networks(*addresses):
    """Tell the family of each: 4, 6, or name; what is of this machine only is left out."""
    for address in addresses:
        try:
            network = ipaddress.ip_network(address)
        except ValueError:
            print("name", address)
            continue
        if not network.is_loopback:
            print(network.version, network.network_address if network.num_addresses == 1 else network)


def health(host, port, is_tls, name=""):
    """Exit 0 if it answers there; a drained node does well, too."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, int(port)), 5) as plain:
            sock = context.wrap_socket(plain, server_hostname=name or None) if is_tls == "1" else plain
            connection = http.client.HTTPConnection(name or host, timeout=5)
            connection.sock = sock
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read(4096)
    except (OSError, http.client.HTTPException):
        sys.exit(1)
    sys.exit(not (answer.status == 200 and b"ok" in body or answer.status == 503 and b"drain" in body))


def free(host, port):
    """Exit 0 if nobody listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, int(port)))
        except OSError as error:
            sys.exit(error.strerror)


def pair(cert, key=""):
    """Exit 0 if certificate and key belong together."""

    def password():
        raise ValueError("the key has a password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key or None, password)
    except (OSError, ValueError) as error:
        sys.exit(getattr(error, "reason", None) or str(error))


def copy_database(source, target):
    """Copy a database that is in use, as a whole."""
    with sqlite3.connect("file:%s?mode=ro" % source, uri=True) as old, sqlite3.connect(target) as new:
        old.backup(new)
    os.chmod(target, 0o600)


def ruleset():
    return json.loads(subprocess.run(["nft", "-j", "list", "ruleset"], check=True, capture_output=True).stdout)["nftables"]


def closed_chains():
    """Chains of others that drop what nobody lets in: one has to say so there."""
    for each in ruleset():
        chain = each.get("chain", {})
        if (chain.get("hook"), chain.get("policy"), chain.get("type")) == ("input", "drop", "filter"):
            print(chain["family"], chain["table"], chain["name"])


def own_rules():
    for each in ruleset():
        rule = each.get("rule", {})
        if rule.get("comment") == "binance-resender":
            print(rule["family"], rule["table"], rule["chain"], "handle", rule["handle"])


globals()[sys.argv[1]](*sys.argv[2:])
END
    # Run by the Python of the old version, which knows its own defaults.
    cat >"$work/carry.py" <<'END'
import ast, runpy, sys

old, target = sys.argv[1:]
sys.path.insert(0, old)
sys.dont_write_bytecode = True
try:
    from resender.config_loading import load_config
except ImportError:
    from resender.config import load_config
with open(old + "/settings.py", encoding="utf-8") as file:
    text = file.read()
values = {n: v for n, v in runpy.run_path(old + "/settings.py").items() if n.isupper() and not n.startswith("_")}
plain = load_config({}, {})


def is_default(name, value):
    try:
        return getattr(load_config({name: value}, {}), name.lower()) == getattr(plain, name.lower())
    except Exception:
        return False


def found(text):
    """Where the value of each name stands, and whether it is a plain one."""
    places = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            places[node.targets[0].id] = node.value
    return places


mine = [name for name, value in values.items() if not is_default(name, value)]
if not mine:
    sys.exit(0)
here = found(text)
for name in mine:
    try:
        ast.literal_eval(here[name])
    except (KeyError, ValueError):
        sys.exit(3)  # a program of its own: it is taken over as it is
with open(target, encoding="utf-8") as file:
    new = file.read()
lines = [line.encode() for line in new.splitlines(keepends=True)]
there = found(new)
for name in sorted(mine, key=lambda name: -there[name].lineno if name in there else 1):
    value = ast.get_source_segment(text, here[name])
    if name not in there:
        lines.append(("%s = %s\n" % (name, value)).encode())
        continue
    node = there[name]
    first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
    lines[node.lineno - 1 : node.end_lineno] = [
        first[: node.col_offset] + value.encode() + last[node.end_col_offset :]
    ]
with open(target, "wb") as file:
    file.write(b"".join(lines))
print(" ".join(sorted(mine)))
END
}

helper() { "$PYTHON" -I "$work/helper.py" "$@" 9<&-; }

# setting NAME DEFAULT: the value in force for the service; before it is there, the one it will have.
setting() {
    environment=$SETTINGS settings_py=$PROGRAM/settings.py
    [ -e "$environment" ] || environment=$source/deploy/binance-resender.env
    [ -e "$settings_py" ] || settings_py=$source/settings.py
    helper setting "$environment" "$settings_py" "$1" "$2"
}

# --- what it was told, judged ------------------------------------------------------------------------

questions() {
    [ -n "$asks" ] || return 0
    if [ -z "$has_service" ]; then
        [ "$language" = zh ] || say '(中文：--language zh)' '(中文：--language zh)'
        if [ -z "$whitelist" ]; then
            [ -z "$owner" ] || say 'You are connected from %s.' '你是从 %s 连接进来的。' "$owner"
            ask 'Which addresses may call the gateway? Several with blanks in between, Enter for none yet:' \
                '允许哪些地址调用网关？多个用空格隔开，暂时没有就直接回车：'
            whitelist=$answer
            check_whitelist
        fi
        if [ -z "$domain$tls_cert" ]; then
            ask 'A domain name that leads to this machine, for HTTPS with a certificate of its own? Enter for none:' \
                '有没有指向本机的域名，用来提供带证书的 HTTPS？没有就直接回车：'
            domain=$(printf %s "$answer" | tr '[:upper:]' '[:lower:]')
            check_domain
        fi
        confirm y 'Install Binance Resender %s into %s? [Y/n]' '把 Binance Resender %s 安装到 %s？[Y/n]' \
            "$version_new" "$PROGRAM" || exit 0
    elif [ "$version_old" != "$version_new" ]; then
        confirm y 'Bring Binance Resender from %s to %s? [Y/n]' '把 Binance Resender 从 %s 升级到 %s？[Y/n]' \
            "$version_old" "$version_new" || exit 0
    fi
}

judge() {
    # shellcheck disable=SC2086
    if [ -n "$whitelist" ]; then
        whitelist=$(helper entries "$source" $whitelist 2>"$work/why") ||
            wrong '--whitelist: %s' '--whitelist 有误：%s' "$(tail -n 1 "$work/why")"
    fi
    if [ -n "$tls_cert" ]; then
        [ ! -e "$CADDY_SITE" ] || wrong 'Caddy serves HTTPS here (%s): a certificate of the gateway has no place behind it.' \
            '这里由 Caddy 提供 HTTPS（%s）：后面的网关不需要自己的证书。' "$CADDY_SITE"
        why=$(helper pair "$tls_cert" "$tls_key" 2>&1) ||
            wrong 'Certificate and key do not fit: %s' '证书和私钥不能用：%s' "$why"
    fi
    port_now=$(setting PORT 8000) host_now=$(setting HOST 0.0.0.0)
    for ssh_port in $(ssh_ports); do
        [ "$ssh_port" != "${port:-$port_now}" ] ||
            wrong 'Port %s is the one of SSH: choose another with --port.' '端口 %s 是 SSH 在用的：用 --port 换一个。' "$ssh_port"
    done
    # What holds the port before the change may be the gateway itself.
    if [ -z "$no_start" ] &&
        { [ "${port:-$port_now}" != "$port_now" ] || ! systemctl is-active --quiet "$SERVICE"; }; then
        [ -z "$caddy" ] || host_now=127.0.0.1
        why=$(helper free "$host_now" "${port:-$port_now}" 2>&1) ||
            wrong 'Port %s cannot be used (%s): choose another with --port.' '端口 %s 不能用（%s）：用 --port 换一个。' \
                "${port:-$port_now}" "$why"
    fi
    [ -n "$caddy" ] || return 0
    [ -z "$(setting TLS_CERT '')" ] ||
        wrong 'RESENDER_TLS_CERT is set in %s: HTTPS is either of the gateway or of Caddy.' \
            '%s 里设了 RESENDER_TLS_CERT：HTTPS 要么由网关提供，要么由 Caddy 提供。' "$SETTINGS"
    case ${port:-$port_now} in
    80 | 443)
        wrong 'Port %s is the one of Caddy: give the gateway another, such as --port 8000.' \
            '端口 %s 归 Caddy 用：给网关换一个，例如 --port 8000。' "${port:-$port_now}"
        ;;
    esac
    check_web_ports
    getent ahosts "$domain" >/dev/null ||
        note '%s leads nowhere yet: without DNS there is no certificate.' '%s 还没有解析：没有 DNS 就申请不到证书。' "$domain"
}

check_web_ports() {
    ! systemctl is-active --quiet caddy || return 0
    for web_port in 80 443; do
        helper free 0.0.0.0 "$web_port" 2>/dev/null || wrong \
            'Port %s is taken by another program. Have that one serve HTTPS (deploy/nginx.conf), or use --tls-cert.' \
            '端口 %s 被别的程序占用。让那个程序提供 HTTPS（deploy/nginx.conf），或用 --tls-cert。' "$web_port"
    done
}

# --- the program, beside the one that runs -------------------------------------------------------------

version_of() { sed -n 's/^__version__ = "\(.*\)"/\1/p' "$1/resender/__init__.py" 2>/dev/null || :; }

# An update that was cut short, by a loss of power perhaps: either it has worked all the same, or all of it is put back.
mend() {
    rm -rf -- "$PROGRAM.new" "$PROGRAM.failed"
    unfinished=$(find "$BEFORE" -mindepth 2 -maxdepth 2 -name exact 2>/dev/null | sort | tail -n 1)
    if [ ! -d "$PROGRAM.old" ] || { [ -e "$PROGRAM" ] && [ -z "$unfinished" ]; } ||
        { [ -e "$PROGRAM" ] && systemctl is-active --quiet "$SERVICE" && is_healthy; }; then
        forget_exact
        return
    fi
    note 'An update was cut short: everything is put back as it was before.' '上次升级中断了：全部恢复到升级之前。'
    quietly systemctl stop "$SERVICE" || :
    [ ! -d "$PROGRAM/data" ] || [ -d "$PROGRAM.old/data" ] || mv "$PROGRAM/data" "$PROGRAM.old/data"
    rm -rf -- "$PROGRAM"
    mv "$PROGRAM.old" "$PROGRAM"
    [ -n "$unfinished" ] || return 0
    saved=${unfinished%/exact} kept=${unfinished%/exact}
    restore_state
    find_database
    restore_database
    saved=
    forget_exact
    systemctl daemon-reload
}

# good_venv FOLDER: whether its environment runs the program. Bytecode is made on the way: the service may not write
# there, and would compile everything at each start.
good_venv() {
    quietly env -C "$1" -u PYTHONPATH -u PYTHONPYCACHEPREFIX -u PYTHONDONTWRITEBYTECODE \
        .venv/bin/python -c 'import resender.cli.main, resender.cli.serve'
}

is_same_python() {
    [ "$("$1/.venv/bin/python" -V 2>/dev/null)" = "$("$PYTHON" -V)" ] && [ -e "$1/.venv/runtime" ]
}

# make_venv FOLDER [OLD]: with the packages of its requirements.txt.
make_venv() {
    if [ -n "${2:-}" ] && cmp -s "$2/requirements.txt" "$1/requirements.txt" && is_same_python "$2"; then
        cp -a "$2/.venv" "$1/.venv"
    elif ! is_same_python "$1"; then
        rm -rf -- "$1/.venv"
        quietly "$PYTHON" -m venv "$1/.venv" || return
    fi
    # As `make` does it; what is there already is not fetched again.
    quietly "$1/.venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --no-compile \
        -r "$1/requirements.txt" && touch "$1/.venv/runtime" && good_venv "$1"
}

cannot_make_venv() {
    show_log
    if [ -d "$PROGRAM/.venv-before" ]; then
        rm -rf -- "$PROGRAM/.venv"
        mv "$PROGRAM/.venv-before" "$PROGRAM/.venv"
    fi
    fail 'The Python packages cannot be installed. Is there a network? pip heeds PIP_INDEX_URL and /etc/pip.conf.' \
        'Python 软件包装不上。网络通吗？pip 会用 PIP_INDEX_URL 和 /etc/pip.conf 里的镜像。'
}

# Lay the new program beside the old one, where it is another one: `program_changes`.
stage() {
    laid=$work/new
    mkdir "$laid"
    (
        cd "$source"
        present=
        for name in $NAMES; do [ ! -e "$name" ] || present="$present $name"; done
        # shellcheck disable=SC2086
        tar -cf "$work/program.tar" --exclude=__pycache__ --exclude='*.py[co]' --exclude='.*.sw?' --exclude='*~' $present
    )
    tar -xf "$work/program.tar" -C "$laid" --no-same-owner
    rm "$work/program.tar"
    chmod -R u=rwX,go=rX "$laid"
    [ -z "$has_program" ] || carry_settings
    program_changes=yes
    if [ -n "$has_program" ] && is_same_python "$PROGRAM" && is_same_program && good_venv "$PROGRAM"; then
        program_changes=
        return
    fi
    cp -a "$laid" "$PROGRAM.new"
    old=
    if [ -n "$has_program" ]; then
        old=$PROGRAM
        step 'Program %s and its packages, beside the one that runs' '准备程序 %s 和它的软件包（不影响正在运行的）' "$version_new"
    else
        step 'Program %s and its packages, in %s' '把程序 %s 和它的软件包装到 %s' "$version_new" "$PROGRAM"
    fi
    make_venv "$PROGRAM.new" "$old" || cannot_make_venv
    # Scripts of the environment name the folder they were made in.
    for file in "$PROGRAM.new"/.venv/bin/* "$PROGRAM.new/.venv/pyvenv.cfg"; do
        { [ -f "$file" ] && [ ! -L "$file" ] && grep -qI "$PROGRAM.new/" "$file"; } || continue
        sed -i "s|$PROGRAM\.new/|$PROGRAM/|g" "$file"
    done
}

is_same_program() {
    for name in $NAMES; do
        [ -e "$laid/$name" ] || [ -e "$PROGRAM/$name" ] || continue
        diff -rq --exclude=__pycache__ "$laid/$name" "$PROGRAM/$name" >/dev/null 2>&1 || return 1
    done
}

# Values that were changed in settings.py go over into the new one.
carry_settings() {
    [ -e "$PROGRAM/settings.py" ] && [ -x "$PROGRAM/.venv/bin/python" ] || return 0
    code=0
    carried=$(cd / && "$PROGRAM/.venv/bin/python" "$work/carry.py" "$PROGRAM" "$laid/settings.py" \
        2>>"$work/log") || code=$?
    if [ "$code" -ne 0 ]; then
        cp "$PROGRAM/settings.py" "$laid/settings.py"
        carried=settings.py
    fi
    if [ -n "$carried" ]; then
        # It may be for few to read.
        chown --reference="$PROGRAM/settings.py" "$laid/settings.py"
        chmod --reference="$PROGRAM/settings.py" "$laid/settings.py"
    fi
}

# The source is the program's own place: nothing is copied, and the way back is git's.
stage_in_place() {
    program_changes=
    find "$PROGRAM" \( -path "$PROGRAM/data" -o -path "$PROGRAM/.git" -o -path "$PROGRAM/settings.py" \) -prune -o \
        \( ! -user root -o ! -group root \) -exec chown -h root:root {} +
    find "$PROGRAM" \( -path "$PROGRAM/data" -o -path "$PROGRAM/.git" -o -path "$PROGRAM/settings.py" \) -prune -o \
        ! -type l \( ! -perm -044 -o -perm /022 -o -type d ! -perm -055 \) -exec chmod go=rX {} +
    # Whether it is another one than the one that runs; of a service that is stopped nobody knows.
    if [ -n "$has_service" ]; then
        began=$(shown ExecMainStartTimestamp)
        if ! systemctl is-active --quiet "$SERVICE" || [ -z "$began" ] ||
            [ -n "$(cd "$PROGRAM" && find run.py settings.py requirements.txt resender admin_static \
                -name __pycache__ -prune -o -type f -newerct "$began" -print -quit)" ]; then
            program_changes=yes
        fi
    fi
    if ! { is_same_python "$PROGRAM" && good_venv "$PROGRAM" &&
        [ -n "$(find "$PROGRAM/.venv/runtime" -newer "$PROGRAM/requirements.txt")" ]; }; then
        step 'Packages of the program' '安装程序的软件包'
        rm -rf -- "$PROGRAM/.venv-before"
        [ ! -d "$PROGRAM/.venv" ] || cp -a "$PROGRAM/.venv" "$PROGRAM/.venv-before"
        make_venv "$PROGRAM" || cannot_make_venv
        program_changes=yes
    fi
    { [ -n "$has_service" ] && [ -n "$program_changes" ]; } || return 0
    commit_old=$(cat "$PROGRAM/.venv/installed" 2>/dev/null || in_git rev-parse -q --verify ORIG_HEAD 2>/dev/null) || :
    [ -n "$commit_old" ] || note 'The program was replaced in place: there is no way back to the one before, but to its database.' \
        '程序是就地替换的：不能退回原来的程序，只能退回原来的数据库。'
}

in_git() { git -c "safe.directory=$PROGRAM" -C "$PROGRAM" "$@"; }

# --- backup ------------------------------------------------------------------------------------------

# Where the database is, empty if it is no file.
find_database() {
    url=$(setting DATABASE_URL '')
    case $url in
    '') database=$(setting DATA_DIR data)/resender.db ;;
    sqlite:///*)
        database=${url#sqlite:///}
        database=${database%%\?*}
        ;;
    *) database='' ;;
    esac
    case $database in '' | /*) ;; *) database=$PROGRAM/$database ;; esac
    # What a link leads to is what has to be saved.
    [ -z "$database" ] || database=$(readlink -m "$database")
    database_mb=0
    if [ -f "$database" ]; then database_mb=$(du -m "$database" | cut -f 1); fi
}

can_back_up() { [ -x "$WRAPPER" ] && quietly "$WRAPPER" backup --help; }

# Database, program, settings, unit and wrapper as they were, for the way back by hand.
back_up() {
    saved=$BEFORE/before-$(date -u +%Y%m%dT%H%M%SZ)
    step 'Backup in %s' '备份到 %s' "$saved"
    install -d -m 700 "$BEFORE" "$saved"
    if can_back_up; then
        # The service's user writes it, into a folder of its own.
        install -d -o "$PERSON" -g "$PERSON" -m 700 "$BACKUPS"
        made=$BACKUPS/before-update.tar.gz
        rm -f -- "$made"
        if ! quietly "$WRAPPER" backup "$made"; then
            show_log
            fail 'The backup failed; nothing was changed.' '备份失败；没有改动任何东西。'
        fi
        mv -- "$made" "$saved/backup.tar.gz"
        chown -h root:root "$saved/backup.tar.gz"
    elif [ -n "$database" ] && [ -f "$database" ]; then
        quietly helper copy_database "$database" "$saved/resender.db" || {
            show_log
            fail 'The backup failed; nothing was changed.' '备份失败；没有改动任何东西。'
        }
    elif [ -z "$database" ] && [ -z "$yes" ]; then
        fail 'Version %s cannot save a database on a server. Save it by its own means, then call this again with --yes.' \
            '版本 %s 不会备份服务器上的数据库。请用数据库自己的工具备份，然后加 --yes 再运行。' "$version_old"
    fi
    [ -z "$has_program" ] || tar -czf "$saved/program.tar.gz" -C "${PROGRAM%/*}" --exclude=__pycache__ \
        --exclude="${PROGRAM##*/}/.venv*" --exclude="${PROGRAM##*/}/data" "${PROGRAM##*/}"
    chmod -R go= "$saved"
}

# The newest stay.
prune_backups() {
    find "$BEFORE" -maxdepth 1 -type d -name 'before-*' 2>/dev/null | sort -r | tail -n +$((KEPT_BEFORE + 1)) |
        while IFS= read -r folder; do rm -rf -- "$folder"; done
}

# Files of the state, exactly as they are, to be put back.
keep_state() {
    kept=$work/state
    mkdir -m 700 "$kept"
    for file in $STATE; do
        [ ! -e "$file" ] || cp -a --parents "$file" "$kept"
    done
    [ -z "$saved" ] || cp -a "$kept/." "$saved/"
}

restore_state() {
    for file in $STATE; do
        if [ -e "$kept$file" ]; then cp -a "$kept$file" "$file"; else rm -f -- "$file"; fi
    done
    rmdir --ignore-fail-on-non-empty "${PORT_DROP_IN%/*}" "$TLS" 2>/dev/null || :
}

# The database of a service that is stopped: the file itself and what SQLite keeps beside it.
keep_database() {
    { [ -n "$saved" ] && [ -n "$database" ] && [ -f "$database" ]; } || return 0
    mkdir -m 700 "$saved/exact.part"
    for end in '' -wal -shm -journal; do
        [ ! -f "$database$end" ] || cp -a --reflink=auto "$database$end" "$saved/exact.part/database$end"
    done
    # Half a copy must never be put back.
    mv "$saved/exact.part" "$saved/exact"
}

# As long as there is one, an update is under way.
forget_exact() { find "$BEFORE" -mindepth 2 -maxdepth 2 -name 'exact*' -exec rm -rf -- {} + 2>/dev/null || :; }

restore_database() {
    { [ -n "$saved" ] && [ -f "$saved/exact/database" ]; } || return 0
    for end in '' -wal -shm -journal; do
        rm -f -- "$database$end"
        [ ! -f "$saved/exact/database$end" ] || cp -a "$saved/exact/database$end" "$database$end"
    done
}

# --- settings, unit, wrapper ----------------------------------------------------------------------------

make_user() {
    if ! getent passwd "$PERSON" >/dev/null; then
        step 'User %s' '创建用户 %s' "$PERSON"
        useradd --system --user-group --home-dir "$DATA" --shell /usr/sbin/nologin "$PERSON"
    fi
    [ -d "$DATA" ] || install -d -o "$PERSON" -g "$PERSON" -m 700 "$DATA"
}

# put_file MODE SOURCE TARGET: only where it is another one; success if it was.
put_file() {
    if cmp -s "$2" "$3" && [ "$(stat -c %a:%U "$3")" = "$1:root" ]; then return 1; fi
    install -m "$1" "$2" "$3.install" && mv -f "$3.install" "$3"
}

# Put settings, unit and wrapper in place; `changes` tells whether the service has to start anew.
put_in_place() {
    if [ ! -e "$SETTINGS" ]; then
        put_file 600 "$source/deploy/binance-resender.env" "$SETTINGS" || :
        step 'Settings: %s' '设置文件：%s' "$SETTINGS"
        changes=yes
    fi
    chmod o= "$SETTINGS"
    set --
    [ "${port:-$(setting PORT 8000)}" = "$(setting PORT 8000)" ] || set -- "$@" "RESENDER_PORT=$port"
    if [ -n "$caddy" ]; then
        proxies=$(setting TRUSTED_PROXIES '')
        case ,$proxies, in *,127.0.0.1,* | *,127.0.0.0/8,*) ;; *) proxies=${proxies:+$proxies,}127.0.0.1 ;; esac
        set -- "$@" RESENDER_HOST=127.0.0.1 "RESENDER_TRUSTED_PROXIES=$proxies"
    fi
    if [ -n "$tls_cert" ]; then
        set -- "$@" "RESENDER_TLS_CERT=$TLS/tls-cert.pem" "RESENDER_TLS_KEY=${tls_key:+$TLS/tls-key.pem}"
        put_certificate
    fi
    if [ $# -gt 0 ]; then
        added=$(helper put "$SETTINGS" "$@") || fail 'The settings cannot be written.' '写不了设置文件。'
        if [ -n "$added" ]; then
            step 'Settings changed in %s: %s' '已改设置 %s：%s' "$SETTINGS" "$added"
            changes=yes
        fi
    fi
    put_units
    if put_file 755 "$source/deploy/resender" "$WRAPPER"; then step 'Command %s' '安装命令 %s' "$WRAPPER"; fi
}

put_certificate() {
    install -d -o root -g "$PERSON" -m 750 "$TLS"
    for name in cert key; do
        file=$tls_cert
        [ "$name" = cert ] || file=$tls_key
        [ -n "$file" ] || continue
        target=$TLS/tls-$name.pem
        if cmp -s "$file" "$target" && [ "$(stat -c %a:%U:%G "$target")" = "640:root:$PERSON" ]; then continue; fi
        install -o root -g "$PERSON" -m 640 "$file" "$target.install"
        mv -f "$target.install" "$target"
        step 'Certificate: %s' '证书：%s' "$target"
    done
}

put_units() {
    units_change=
    for unit in "$SERVICE.service" "$SERVICE-backup.service" "$SERVICE-backup.timer"; do
        [ -e "$source/deploy/$unit" ] || continue
        [ -e "$UNITS/$unit" ] || new_units="$new_units $unit"
        if put_file 644 "$source/deploy/$unit" "$UNITS/$unit"; then
            step 'Unit %s' '安装服务单元 %s' "$unit"
            units_change=yes
            [ "$unit" != "$SERVICE.service" ] || changes=yes
        fi
    done
    # Below 1024 the service needs a capability.
    if [ "$(setting PORT 8000)" -lt 1024 ]; then
        printf '%s\n' '[Service]' CapabilityBoundingSet=CAP_NET_BIND_SERVICE AmbientCapabilities=CAP_NET_BIND_SERVICE \
            >"$work/drop-in"
        install -d -m 755 "${PORT_DROP_IN%/*}"
        if put_file 644 "$work/drop-in" "$PORT_DROP_IN"; then units_change=yes changes=yes; fi
    elif [ -e "$PORT_DROP_IN" ]; then
        rm -f -- "$PORT_DROP_IN"
        rmdir --ignore-fail-on-non-empty "${PORT_DROP_IN%/*}"
        units_change=yes changes=yes
    fi
    [ -z "$units_change" ] || systemctl daemon-reload
}

enable_units() {
    for unit in $new_units; do
        case $unit in
        "$SERVICE.service") quietly systemctl enable "$unit" ;;
        *.timer) quietly systemctl enable --now "$unit" && step 'A backup each night, in %s' '每晚自动备份到 %s' "$BACKUPS" ;;
        esac
    done
}

# --- start, and the way back ------------------------------------------------------------------------------

# is_healthy: whether the gateway answers on this machine.
is_healthy() {
    host=$(setting HOST 0.0.0.0) tls=0
    case $host in 0.0.0.0) host=127.0.0.1 ;; ::) host=::1 ;; esac
    [ -z "$(setting TLS_CERT '')" ] || tls=1
    helper health "$host" "$(setting PORT 8000)" "$tls"
}

shown() { systemctl show -p "$1" --value "$SERVICE"; }

# Start the service and wait until it serves.
start() {
    quietly systemctl reset-failed "$SERVICE" || :
    quietly systemctl start --no-block "$SERVICE" || return
    until_s=$(($(date +%s) + READY_S)) idle=0
    while [ "$(date +%s)" -lt "$until_s" ]; do
        case $(shown ActiveState) in
        active)
            if is_healthy; then
                # One that falls over at once is none.
                main=$(shown MainPID)
                sleep 1
                if [ "$(shown MainPID)" = "$main" ] && is_healthy; then return 0; fi
            fi
            ;;
        failed) return 1 ;;
        inactive)
            idle=$((idle + 1))
            [ "$idle" -lt 5 ] || return 1
            ;;
        esac
        restarts=$(shown NRestarts)
        [ "${restarts:-0}" -lt "$STARTS" ] || return 1
        sleep 1
    done
    return 1
}

# What the service said, without a password.
show_journal() {
    journalctl -q -u "$SERVICE" -o cat -n 40 --since "@$started_s" 2>/dev/null | grep -vi password |
        grep -v '^Started \|^Starting \|^Stopp' | tail -n 6 | sed 's/^/    | /' >&2 || :
}

# Put the new version in the old one's place and start it; take it back where that does not work.
# What the new version wants of its owner, and whether it can take the database over: told before anything is changed.
look_ahead() {
    [ -n "$staged" ] || return 0
    sed "s|^FOLDER = .*|FOLDER = \"$PROGRAM.new\"|" "$PROGRAM.new/deploy/resender" >"$work/ahead"
    spoken=C.UTF-8
    [ "$language" = en ] || spoken=zh_CN.UTF-8
    if LC_ALL=$spoken PYTHONIOENCODING=utf-8 "$PYTHON" -I "$work/ahead" upgrade --check \
        >"$work/looked" 2>&1 </dev/null 9<&-; then
        sed 's/^/    /' "$work/looked"
    else
        sed 's/^/    | /' "$work/looked" >&2
        fail 'Version %s cannot take the database over; nothing was changed.' '版本 %s 用不了现在的数据库；没有改动任何东西。' \
            "$version_new"
    fi
}

switch() {
    if [ -n "$is_update" ] && [ -n "$program_changes" ]; then
        look_ahead
        back_up
    fi
    keep_state
    was_active=
    # One that falls over again and again is on its way up, too.
    case $(shown ActiveState) in active | activating | reloading) was_active=yes ;; esac
    put_back=
    if [ -n "$is_update" ]; then put_back=yes; fi
    if [ -n "$program_changes" ]; then
        if [ -n "$has_service" ]; then
            quietly systemctl stop "$SERVICE-backup.service" || :
            quietly systemctl stop "$SERVICE" || fail 'The service does not stop.' '服务停不下来。'
        fi
        keep_database
        if [ -n "$staged" ]; then
            rm -rf -- "$PROGRAM.old"
            swapped=begun
            [ ! -e "$PROGRAM" ] || mv "$PROGRAM" "$PROGRAM.old"
            mv "$PROGRAM.new" "$PROGRAM"
            # A relative DATA_DIR lies beside run.py.
            [ ! -d "$PROGRAM.old/data" ] || mv "$PROGRAM.old/data" "$PROGRAM/data"
        fi
        changes=yes
    fi
    put_in_place
    # What was not changed is not to blame.
    [ -n "$changes" ] || put_back=
    if [ -n "$no_start" ]; then
        [ -z "$changes" ] || [ -z "$was_active" ] || quietly systemctl stop "$SERVICE"
        put_back='' swapped=''
        # Nothing is unfinished: the backup is there, and the old program until the new one has served.
        forget_exact
        enable_units
        return
    fi
    if [ -z "$changes" ] && [ -n "$was_active" ] && is_healthy; then
        put_back=
        rm -rf -- "$PROGRAM.old"
        enable_units
        return
    fi
    step 'Starting; it may take a while' '正在启动，请稍候'
    started_s=$(date +%s) was_started=yes
    [ -z "$was_active" ] || quietly systemctl stop "$SERVICE" || :
    if ! start; then
        show_journal
        if [ -n "$put_back" ]; then
            roll_back
        else
            say 'It does not get ready; what it says is above and in: journalctl -u %s' \
                '服务没有就绪；原因见上面，以及：journalctl -u %s' "$SERVICE" >&2
            say 'Put that right and call this again.' '解决之后再运行一次本脚本。' >&2
        fi
        exit 1
    fi
    put_back=
    # There is no way back from here, and none is needed.
    rm -rf -- "$PROGRAM.old" "$PROGRAM/.venv-before"
    swapped=
    forget_exact
    enable_units
    if [ -n "$is_update" ] && [ -n "$program_changes" ]; then
        prune_backups
        if [ "$version_old" = "$version_new" ]; then
            say 'The program was renewed; its version is still %s.' '程序已更新；版本仍是 %s。' "$version_new"
        else
            say 'Updated from %s to %s.' '已从 %s 升级到 %s。' "$version_old" "$version_new"
        fi
    fi
}

# Program, database, settings, unit and wrapper as before, and the service as before.
roll_back() {
    set +e
    put_back=
    step 'Going back: everything is put as it was' '撤回：全部恢复原状'
    quietly systemctl stop "$SERVICE"
    for unit in $new_units; do quietly systemctl disable --now "$unit"; done
    if [ -n "$swapped" ]; then
        if [ -e "$PROGRAM.old" ]; then
            if [ -e "$PROGRAM" ]; then
                [ ! -d "$PROGRAM/data" ] || [ -d "$PROGRAM.old/data" ] || mv "$PROGRAM/data" "$PROGRAM.old/data"
                mv "$PROGRAM" "$PROGRAM.failed"
            fi
            mv "$PROGRAM.old" "$PROGRAM"
            rm -rf -- "$PROGRAM.failed"
        fi
        swapped=
    elif [ -n "$program_changes" ]; then
        [ -z "$commit_old" ] || quietly in_git checkout -q --detach "$commit_old"
        if [ -d "$PROGRAM/.venv-before" ]; then
            rm -rf -- "$PROGRAM/.venv"
            mv "$PROGRAM/.venv-before" "$PROGRAM/.venv"
        fi
    fi
    restore_database
    restore_state
    quietly systemctl daemon-reload
    if [ -z "$was_active" ]; then
        say 'Taken back. The service is stopped, as it was.' '已撤回。服务处于停止状态，和之前一样。' >&2
    elif start; then
        say 'Taken back: version %s serves again, with its database of before.' \
            '已撤回：版本 %s 重新提供服务，数据库和之前一样。' "${version_old:-?}" >&2
        [ -z "$saved" ] || rm -rf -- "$saved"
    else
        say 'Taken back, but what was before does not start either: journalctl -u %s' \
            '已撤回，但之前的版本也启动不了：journalctl -u %s' "$SERVICE" >&2
        [ -z "$saved" ] || say 'What was before is in %s.' '之前的一切在 %s。' "$saved" >&2
    fi
}

# --- who may call, HTTPS, firewall ---------------------------------------------------------------------------

call_wrapper() { quietly "$WRAPPER" "$@"; }

fill_whitelist() {
    "$WRAPPER" whitelist list >"$work/whitelist" 2>>"$work/log" </dev/null || :
    for address in $whitelist; do
        if awk -v a="$address" '$1 == a && $2 == "on" { found = 1 } END { exit !found }' "$work/whitelist"; then
            continue
        fi
        if ! call_wrapper whitelist add "$address"; then
            show_log 3
            fail '%s cannot be put into the whitelist.' '无法把 %s 加入白名单。' "$address"
        fi
        admitted=yes
        step '%s may call' '%s 可以调用了' "$address"
    done
    "$WRAPPER" whitelist list >"$work/whitelist" 2>>"$work/log" </dev/null || :
    allowed=$(awk '/^[^ ]/ && $2 == "on" { print $1 }' "$work/whitelist" | tr '\n' ' ')
}

# The sample without its two lines against strangers: the whitelist decides, and changes without Caddy.
set_up_caddy() {
    if [ -z "$caddy" ] && [ -e "$CADDY_SITE" ]; then
        # What else was changed there stays.
        sed "s/127\.0\.0\.1:[0-9]*/127.0.0.1:$(setting PORT 8000)/" "$CADDY_SITE" >"$work/site"
        ! put_file 644 "$work/site" "$CADDY_SITE" || quietly systemctl reload-or-restart caddy
    fi
    [ -n "$caddy" ] || return 0
    awk -v name="$domain" -v port="$(setting PORT 8000)" '
        /^#/ || /@stranger/ || /this stops strangers/ { next }
        { gsub("gateway\\.example\\.com", name); gsub("127\\.0\\.0\\.1:8000", "127.0.0.1:" port); lines[++n] = $0 }
        END { for (i = 1; i <= n; i++) if (lines[i] != "" || (i > 1 && lines[i - 1] !~ /\{$/ && lines[i - 1] != "")) print lines[i] }
    ' "$source/deploy/Caddyfile" >"$work/site"
    sed -i '1i # Written by deploy/install.sh from deploy/Caddyfile; it is written anew when that is called again.' "$work/site"
    cp -a "$CADDYFILE" "$work/Caddyfile"
    site_changes=
    if put_file 644 "$work/site" "$CADDY_SITE"; then site_changes=yes; fi
    if ! grep -qxF "import $CADDY_SITE" "$CADDYFILE"; then
        # The one of the package shows a page of its own to everybody; it is put aside, one of the owner is added to.
        if is_pristine_caddyfile; then
            cp -a "$CADDYFILE" "$CADDYFILE.before-binance-resender"
            echo "import $CADDY_SITE" >"$CADDYFILE"
        else
            printf '\nimport %s\n' "$CADDY_SITE" >>"$CADDYFILE"
        fi
        site_changes=yes
    fi
    if ! quietly env XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" caddy validate --adapter caddyfile --config "$CADDYFILE"; then
        cp -a "$work/Caddyfile" "$CADDYFILE"
        rm -f -- "$CADDY_SITE"
        show_log 5
        fail 'Caddy does not take its settings; %s is as before.' 'Caddy 不接受这份配置；%s 已恢复原样。' "$CADDYFILE"
    fi
    [ -n "$site_changes" ] || systemctl is-active --quiet caddy || site_changes=yes
    [ -n "$site_changes" ] || return 0
    step 'HTTPS for %s by Caddy' '由 Caddy 为 %s 提供 HTTPS' "$domain"
    if ! { quietly systemctl enable caddy && quietly systemctl reload-or-restart caddy; }; then
        show_log 5
        fail 'Caddy does not start: journalctl -u caddy' 'Caddy 启动不了：journalctl -u caddy'
    fi
    tries=30
    until helper health 127.0.0.1 443 1 "$domain"; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            note 'There is no certificate for %s yet. DNS must lead here, and ports 80 and 443 must be open to all: journalctl -u caddy' \
                '%s 还没有证书。域名要解析到本机，80 和 443 端口要对所有人开放：journalctl -u caddy' "$domain"
            break
        fi
        sleep 1
    done
}

is_pristine_caddyfile() {
    sum=$(dpkg-query -W -f='${Conffiles}\n' caddy 2>/dev/null | awk -v f="$CADDYFILE" '$1 == f { print $2 }') || :
    [ -n "$sum" ] && [ "$(md5sum <"$CADDYFILE" | cut -d ' ' -f 1)" = "$sum" ]
}

# Which port the world sees, and who may reach it: `networks` has a family and an address in each line.
plan_firewall() {
    public=$(setting PORT 8000) is_tls='' is_open=yes
    host_now=$(setting HOST 0.0.0.0)
    [ -z "$(setting TLS_CERT '')" ] || is_tls=yes
    if [ -e "$CADDY_SITE" ]; then
        public=443 is_tls=yes
    else
        case $host_now in 127.* | ::1 | localhost) is_open='' ;; esac
    fi
    # The admin pages are the owner's; without TLS they are reached through SSH.
    who=$allowed admin=
    if [ -n "$is_tls" ]; then
        admin=${owner:-$(last_owner)}
        who="$who $admin"
    fi
    # shellcheck disable=SC2086
    helper networks $who | sort -u >"$work/networks"
}

# Who it was where nobody is connected, as when an update runs by itself.
last_owner() {
    {
        ufw show added 2>/dev/null | sed -n "s/^ufw allow from \([^ ]*\) .* comment 'binance-resender owner'\$/\1/p" || :
        sed -n 's/^# owner //p' "$NFT_TABLE" 2>/dev/null || :
    } | head -n 1
}

# The rules of ufw that this made, as words for `ufw delete`.
own_ufw_rules() { sed -n "s/^ufw \(.*\) comment 'binance-resender\( owner\)\{0,1\}'\$/\1/p"; }

set_up_firewall() {
    { [ -z "$no_firewall" ] && [ -n "$is_open" ]; } || return 0
    sed -n 's/^name //p' "$work/networks" >"$work/names"
    sed -i '/^name /d' "$work/networks"
    if command -v ufw >/dev/null 2>&1; then
        set_up_ufw
    elif systemctl is-active --quiet nftables && command -v nft >/dev/null 2>&1; then
        set_up_nft
    else
        tell_firewall
    fi
    if [ -s "$work/names" ] && { [ -n "$firewall" ] || [ -n "$admitted" ]; }; then
        note 'The firewall knows no names: %s must be let in there by address.' '防火墙不认识域名：%s 要按地址放行。' \
            "$(tr '\n' ' ' <"$work/names")"
    fi
}

# SSH first, and only where nothing is said about it: a narrow rule of the owner is not widened.
set_up_ufw() {
    firewall=ufw
    ufw show added >"$work/ufw" 2>/dev/null || :
    : >"$work/wanted"
    for ssh_port in $(ssh_ports); do
        grep -qiE "(^|[^0-9.])$ssh_port([^0-9.]|\$)|ssh" "$work/ufw" || run_ufw allow "$ssh_port/tcp"
    done
    [ ! -e "$CADDY_SITE" ] || echo "allow 80/tcp" >>"$work/wanted"
    while read -r _ network; do
        echo "allow from $network to any port $public proto tcp" >>"$work/wanted"
    done <"$work/networks"
    # Rules of an earlier run that nobody wants any more.
    own_ufw_rules <"$work/ufw" >"$work/rules"
    while IFS= read -r rule; do
        # shellcheck disable=SC2086
        grep -qxF "$rule" "$work/wanted" || run_ufw delete $rule
    done <"$work/rules"
    while IFS= read -r rule; do
        remark=binance-resender
        case $rule in "allow from ${admin:--} "*) remark='binance-resender owner' ;; esac
        # shellcheck disable=SC2086
        grep -qxF "$rule" "$work/rules" || run_ufw $rule comment "$remark"
    done <"$work/wanted"
    LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active' ||
        note 'ufw is not switched on; its rules are ready, SSH is allowed: ufw enable' 'ufw 没有开启；规则已备好，SSH 已放行：ufw enable'
}

run_ufw() {
    step 'Firewall: ufw %s' '防火墙：ufw %s' "$*"
    quietly ufw "$@" || {
        show_log 3
        note 'ufw did not take this rule.' 'ufw 没有接受这条规则。'
    }
}

# A table of its own that speaks of this port only, and a line in chains of others that drop what they do not know.
set_up_nft() {
    firewall=nft
    {
        echo '# Written by deploy/install.sh. Of this port only; SSH and everything else stay as they are.'
        [ -z "$admin" ] || echo "# owner $admin"
        echo 'table inet binance_resender'
        echo 'delete table inet binance_resender'
        echo 'table inet binance_resender {'
        echo '  chain input {'
        echo '    type filter hook input priority 0; policy accept;'
        echo '    iif "lo" accept'
        echo '    ct state established,related accept'
        nft_rules '    '
        echo "    tcp dport $public drop"
        echo '  }'
        echo '}'
    } >"$work/table"
    helper own_rules >"$work/own" 2>>"$work/log" || :
    : >"$work/accept"
    helper closed_chains 2>>"$work/log" | while read -r family table chain; do
        nft_rules '' comment | while IFS= read -r rule; do
            case $family:$rule in ip:*ip6\ saddr*) continue ;; ip6:*ip\ saddr*) continue ;; esac
            echo "insert rule $family $table $chain $rule"
        done
    done >"$work/accept"
    [ -s "$work/accept" ] || rm -f -- "$work/accept"
    {
        echo '[Unit]'
        echo 'Description=Firewall rule of Binance Resender'
        echo 'After=nftables.service'
        echo 'PartOf=nftables.service'
        echo 'ReloadPropagatedFrom=nftables.service'
        echo '[Service]'
        echo 'Type=oneshot'
        echo 'RemainAfterExit=yes'
        for verb in ExecStart ExecReload; do
            echo "$verb=/usr/sbin/nft -f $NFT_TABLE"
            # Beside the table: the chains it names are another's.
            [ ! -e "$work/accept" ] || echo "$verb=-/usr/sbin/nft -f $NFT_ACCEPT"
        done
        echo '[Install]'
        echo 'WantedBy=nftables.service'
    } >"$work/unit"
    cat "$work/table" "$work/accept" >"$work/both" 2>/dev/null || :
    if ! quietly nft -c -f "$work/both"; then
        show_log 5
        note 'The firewall does not take the rule; it is as before.' '防火墙不接受这条规则；保持原样。'
        return 0
    fi
    nft_changes=
    if put_file 600 "$work/table" "$NFT_TABLE"; then nft_changes=yes; fi
    if [ -e "$work/accept" ]; then
        if put_file 600 "$work/accept" "$NFT_ACCEPT"; then nft_changes=yes; fi
    elif [ -e "$NFT_ACCEPT" ]; then
        rm -f -- "$NFT_ACCEPT"
        nft_changes=yes
    fi
    if put_file 644 "$work/unit" "$UNITS/$NFT_UNIT"; then nft_changes=yes; fi
    { [ -n "$nft_changes" ] || ! systemctl is-active --quiet "$NFT_UNIT"; } || return 0
    step 'Firewall: port %s for those who may call' '防火墙：端口 %s 只对可以调用的地址开放' "$public"
    while read -r rule; do
        # shellcheck disable=SC2086
        quietly nft delete rule $rule
    done <"$work/own"
    systemctl daemon-reload
    quietly systemctl enable "$NFT_UNIT"
    quietly systemctl restart "$NFT_UNIT" || note 'The firewall rule cannot be loaded: journalctl -u %s' \
        '防火墙规则加载不了：journalctl -u %s' "$NFT_UNIT"
}

# nft_rules INDENT [comment]: who may reach the port, a rule for each family.
nft_rules() {
    remark=
    [ -z "${2:-}" ] || remark=' comment "binance-resender"'
    [ ! -e "$CADDY_SITE" ] || echo "${1}tcp dport 80 accept$remark"
    for family in 4 6; do
        set -- "$1" "$(sed -n "s/^$family //p" "$work/networks" | tr '\n' ',' | sed 's/,$//')"
        [ -z "$2" ] || echo "${1}tcp dport $public ip$(echo $family | tr -d 4) saddr { $2 } accept$remark"
    done
}

tell_firewall() {
    { [ -z "$is_update" ] || [ -n "$admitted$port" ]; } || return 0
    say 'No firewall is in use, and none was switched on. The whitelist refuses strangers; a firewall keeps them from knocking:' \
        '没有启用防火墙，也没有替你开启。白名单会拒绝陌生人；防火墙让他们连不上：'
    echo '    apt-get install -y ufw'
    for ssh_port in $(ssh_ports); do echo "    ufw allow $ssh_port/tcp"; done
    [ ! -e "$CADDY_SITE" ] || echo '    ufw allow 80/tcp'
    while read -r _ network; do echo "    ufw allow from $network to any port $public proto tcp"; done <"$work/networks"
    echo '    ufw enable'
}

# --- what to do next --------------------------------------------------------------------------------------------

first_password() {
    [ -n "$was_started" ] || return 0
    tries=6
    while [ "$tries" -gt 0 ]; do
        # The journal may be a moment behind.
        said=$(journalctl -q -u "$SERVICE" -o cat --since "@$started_s" 2>/dev/null |
            sed -n 's/^Admin pages: log in as \([^ ]*\) with the password \([^ ]*\)$/\1 \2/p' | tail -n 1) || :
        # Only a database without an account has one made.
        { [ -z "$said" ] && [ -n "$had_no_database" ]; } || break
        tries=$((tries - 1))
        sleep 0.5
    done
}

summary() {
    scheme=http
    [ -z "$is_tls" ] || scheme=https
    name=${domain:-$server}
    if [ -e "$CADDY_SITE" ] && [ -z "$domain" ]; then name=$(sed -n 's/^\([a-z0-9.-]*\) {$/\1/p' "$CADDY_SITE" | head -n 1); fi
    case $name in *:*) name="[$name]" ;; esac
    address=$scheme://$name
    [ "$scheme:$public" = https:443 ] || [ "$scheme:$public" = http:80 ] || address=$address:$public
    echo
    if [ -n "$no_start" ]; then
        say 'Binance Resender %s is installed, not started: systemctl start %s' 'Binance Resender %s 已安装，没有启动：systemctl start %s' \
            "$version_new" "$SERVICE"
        return
    fi
    say 'Binance Resender %s serves: %s' 'Binance Resender %s 正在服务：%s' "$version_new" "$address"
    if [ -n "$allowed" ]; then
        say '  May call:     %s' '  可以调用：    %s' "$allowed"
    else
        say '  Nobody may call yet: resender whitelist add ADDRESS' '  还没有人可以调用：resender whitelist add 地址'
    fi
    tell_admin
    if [ -n "$said" ]; then
        tell_password
    elif [ -z "$is_update" ]; then
        say '  No password at hand? resender user set-password root' '  没有密码？resender user set-password root'
    fi
    if [ -n "$tls_cert" ]; then tell_renewal; fi
    if [ -n "$firewall" ]; then
        say '  One more address, in whitelist and firewall: sh %s --whitelist ADDRESS' \
            '  再加一个地址（白名单和防火墙一起）：sh %s --whitelist 地址' "$PROGRAM/deploy/install.sh"
    fi
    say '  A firewall of your provider ("security group") must let the same addresses reach TCP port %s.' \
        '  云服务商的防火墙（安全组）也要对同样的地址放行 TCP 端口 %s。' "$public"
}

tell_admin() {
    case $(setting ADMIN_ENABLED true) in [fF]alse | no | off | 0) return ;; esac
    admin_port=$(setting ADMIN_PORT 0) admin_host=$(setting ADMIN_HOST 127.0.0.1)
    if [ "$admin_port" = 0 ]; then
        admin_port=$(setting PORT 8000) admin_host=$host_now
    elif [ "$admin_host" = 127.0.0.1 ]; then
        is_tls=
    fi
    if [ -n "$is_tls" ]; then
        say '  Admin pages:  %s/admin' '  管理页面：    %s/admin' "$address"
        return
    fi
    case $admin_host in 0.0.0.0) admin_host=127.0.0.1 ;; ::) admin_host='[::1]' ;; esac
    tunnel="ssh -L 8000:$admin_host:$admin_port"
    [ -z "$ssh_here" ] || [ "$ssh_here" = 22 ] || tunnel="$tunnel -p $ssh_here"
    say '  Admin pages:  call this on your own computer, leave it open: %s %s@%s' \
        '  管理页面：    在你自己的电脑上运行，不要关闭：%s %s@%s' "$tunnel" "${SUDO_USER:-root}" "$server"
    say '                and open http://127.0.0.1:8000/admin there' '                然后在那台电脑上打开 http://127.0.0.1:8000/admin'
}

tell_password() {
    say '  Log in as %s with the password  %s  (shown only now; it must be changed at the first log-in)' \
        '  登录用户 %s，密码  %s  （只显示这一次；首次登录时必须更改）' "${said% *}" "${said#* }"
}

tell_renewal() {
    say '  After each renewal of the certificate call this (certbot: as a file in /etc/letsencrypt/renewal-hooks/deploy/):' \
        '  证书每次续期后运行（certbot：存成 /etc/letsencrypt/renewal-hooks/deploy/ 里的可执行文件）：'
    echo "    install -o root -g $PERSON -m 640 $tls_cert $TLS/tls-cert.pem"
    [ -z "$tls_key" ] || echo "    install -o root -g $PERSON -m 640 $tls_key $TLS/tls-key.pem"
    say '  The gateway takes it within seconds, without a restart.' '  网关几秒内就会用上，不必重启。'
}

# Whether Binance can be reached is no matter of the installation.
doctor() {
    [ -z "$no_start" ] || return 0
    { [ -n "$changes" ] || [ -z "$is_update" ]; } || return 0
    step 'Asking each host of Binance (resender doctor)' '逐个检查币安的主机（resender doctor）'
    if timeout 180 "$WRAPPER" doctor >"$work/doctor" 2>&1 </dev/null 9<&-; then
        say 'Binance answers on all of them.' '币安全部应答。'
        return
    fi
    # Of its table: what is asked, and what is wrong with it.
    awk -F '  +' '/^market / { table = 1; next } !NF { table = 0 } table && $NF != "ok" { print "    " $1 ": " $NF }' \
        "$work/doctor" >"$work/verdicts"
    [ -s "$work/verdicts" ] || tail -n 5 "$work/doctor" | sed 's/^/    /' >"$work/verdicts"
    cat "$work/verdicts" || :
    note 'Not every host of Binance answers as it should. The installation is done all the same.' \
        '并非每台币安主机都正常应答。安装本身已经完成。'
    say '    - None answers: does this country reach Binance? Are outgoing ports 443 and 9443 open?' \
        '    - 全都不应答：这个国家或地区能访问币安吗？出站端口 443 和 9443 开放吗？'
    say '    - Only some: switch off what you do not use, such as RESENDER_UPSTREAM_EAPI=off in %s, then: systemctl restart %s' \
        '    - 只有一部分：用不到的可以关掉，例如在 %s 里写 RESENDER_UPSTREAM_EAPI=off，再运行：systemctl restart %s' "$SETTINGS" "$SERVICE"
    say '    - Ask again with: resender doctor' '    - 再次检查：resender doctor'
}

# --- removing it ----------------------------------------------------------------------------------------------------

remove() {
    if [ -z "$keep_data" ] && [ -z "$yes" ]; then
        [ -n "$asks" ] || wrong 'Say what becomes of the data: --keep-data keeps it, --yes removes it.' \
            '请说明数据怎么办：--keep-data 保留，--yes 删除。'
        confirm n 'Remove database, settings and all backups as well (%s)? [y/N]' '数据库、设置和所有备份也删除吗（%s）？[y/N]' \
            "$DATA $SETTINGS $BACKUPS $BEFORE" || keep_data=yes
        confirm n 'Remove Binance Resender from this machine? [y/N]' '从这台机器上卸载 Binance Resender？[y/N]' || exit 0
    fi
    step 'Service' '移除服务'
    for unit in "$SERVICE-backup.timer" "$SERVICE-backup.service" "$SERVICE.service" "$NFT_UNIT"; do
        [ ! -e "$UNITS/$unit" ] || quietly systemctl disable --now "$unit" || :
        rm -f -- "$UNITS/$unit"
    done
    rm -rf -- "$UNITS/$SERVICE.service.d"
    rm -f -- /var/lib/systemd/timers/stamp-$SERVICE-backup.timer "$WRAPPER"
    systemctl daemon-reload
    quietly systemctl reset-failed "$SERVICE*" || :
    remove_firewall
    remove_caddy
    if [ -e /etc/fail2ban/jail.d/binance-resender.conf ] || [ -e /etc/fail2ban/filter.d/binance-resender.conf ]; then
        rm -f -- /etc/fail2ban/filter.d/binance-resender.conf /etc/fail2ban/jail.d/binance-resender.conf
        ! systemctl is-active --quiet fail2ban || quietly systemctl restart fail2ban || :
    fi
    step 'Program %s' '删除程序 %s' "$PROGRAM"
    if [ -n "$keep_data" ] && [ -d "$PROGRAM/data" ]; then
        install -d -m 700 "$BEFORE"
        mv "$PROGRAM/data" "$BEFORE/data-$(date -u +%Y%m%dT%H%M%SZ)"
    fi
    rm -rf -- "$PROGRAM" "$PROGRAM.new" "$PROGRAM.old" "$PROGRAM.failed"
    if [ -n "$keep_data" ]; then
        kept_now=
        for path in "$DATA" "$SETTINGS" "$TLS" "$BACKUPS" "$BEFORE"; do
            [ ! -e "$path" ] || kept_now="$kept_now $path"
        done
        say 'Removed. Kept, with their user %s:%s' '已卸载。保留了这些（以及它们的用户 %s）：%s' "$PERSON" "$kept_now"
        return
    fi
    step 'Data, settings, backups, user' '删除数据、设置、备份和用户'
    elsewhere=$(sed -n 's/^RESENDER_DATA_DIR=//p' "$SETTINGS" 2>/dev/null | tail -n 1) || :
    case $elsewhere in '' | "$DATA") ;; *) note 'Not removed: %s' '没有删除：%s' "$elsewhere" ;; esac
    rm -rf -- "$DATA" "$SETTINGS" "$TLS" "$BACKUPS" "$BEFORE"
    if getent passwd "$PERSON" >/dev/null; then quietly userdel "$PERSON" || note 'The user %s stays.' '用户 %s 没有删除。' "$PERSON"; fi
    say 'Removed. Packages of the system stay.' '已卸载。系统软件包没有动。'
}

remove_firewall() {
    if command -v ufw >/dev/null 2>&1; then
        ufw show added 2>/dev/null | own_ufw_rules >"$work/rules" || :
        while IFS= read -r rule; do
            # shellcheck disable=SC2086
            run_ufw delete $rule
        done <"$work/rules"
    fi
    [ -e "$NFT_TABLE" ] || return 0
    step 'Firewall rule' '移除防火墙规则'
    quietly nft delete table inet binance_resender || :
    helper own_rules >"$work/own" 2>>"$work/log" || :
    while read -r rule; do
        # shellcheck disable=SC2086
        quietly nft delete rule $rule
    done <"$work/own"
    rm -f -- "$NFT_TABLE" "$NFT_ACCEPT"
}

remove_caddy() {
    [ -e "$CADDY_SITE" ] || return 0
    step 'Site of Caddy' '移除 Caddy 的站点'
    rm -f -- "$CADDY_SITE"
    if [ -e "$CADDYFILE.before-binance-resender" ] && [ "$(cat "$CADDYFILE")" = "import $CADDY_SITE" ]; then
        mv -f "$CADDYFILE.before-binance-resender" "$CADDYFILE"
    else
        sed -i "\|^import $CADDY_SITE\$|d" "$CADDYFILE"
        # It was the package's, and the owner has written another one since.
        rm -f -- "$CADDYFILE.before-binance-resender"
    fi
    ! systemctl is-active --quiet caddy || quietly systemctl reload-or-restart caddy || :
}

# --- all of it ---------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2317,SC2329  # the trap calls it
leave() {
    code=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    [ -z "${put_back:-}" ] || roll_back
    # Of a first installation the program stays: it is put right by calling this again.
    rm -rf -- "$PROGRAM.new"
    rm -rf -- "$work"
    exit "$code"
}

main() {
    parse "$@"
    if [ -n "$help" ]; then
        usage
        exit 0
    fi
    check_machine
    # What a run that was killed left behind holds settings; by the lock nobody else is at work.
    find "${TMPDIR:-/tmp}" -maxdepth 1 -type d -user root -name 'resender-setup.??????' -exec rm -rf -- {} + 2>/dev/null || :
    work=$(mktemp -d -t resender-setup.XXXXXX) && : >"$work/log"
    source='' saved='' swapped='' changes='' staged='' program_changes='' put_back='' new_units='' commit_old=''
    firewall='' said='' asks='' was_started='' admitted=''
    lists_are_new='' allowed='' was_active='' started_s=$(date +%s)
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The work goes on where the connection ends.
    trap '' HUP
    [ ! -t 0 ] || [ -n "$yes" ] || asks=yes
    # What is set in this shell is no setting of the service.
    for name in $(env | sed -n 's/^\(RESENDER_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done
    export LC_ALL=C.UTF-8
    if [ -n "$uninstall" ]; then
        if [ -x "$PYTHON" ]; then write_helper; fi
        remove
        exit 0
    fi

    source=$(cd "$(dirname "$0")/.." && pwd -P)
    for name in run.py requirements.txt resender/__init__.py deploy/resender; do
        [ -f "$source/$name" ] || wrong 'Call it where it lies in the unpacked program: %s is missing.' \
            '请在解开的程序文件夹里运行它：缺少 %s。' "$source/$name"
    done
    check_distribution
    if [ -x "$PYTHON" ]; then
        write_helper
        mend
    fi
    has_program='' has_service='' is_update=''
    [ ! -e "$PROGRAM/run.py" ] || has_program=yes
    [ ! -e "$UNITS/$SERVICE.service" ] || has_service=yes
    [ -n "$has_program" ] || [ ! -e "$PROGRAM" ] || [ -z "$(ls -A "$PROGRAM")" ] ||
        wrong '%s is there already and is something else.' '%s 已经存在，但不是这个程序。' "$PROGRAM"
    [ -z "$has_program" ] || [ -z "$has_service" ] || is_update=yes
    version_new=$(version_of "$source") version_old=$(version_of "$PROGRAM")
    [ "$source" = "$(readlink -f "$PROGRAM")" ] || staged=yes
    database_mb=0
    check_disk
    ssh_connection
    questions
    caddy=
    [ -z "$domain" ] || [ -n "$tls_cert" ] || caddy=yes
    needed_packages
    check_python
    write_helper
    judge
    # Whether it can have its ports is known now.
    [ -z "$caddy" ] || install_packages caddy
    find_database
    check_disk
    had_no_database=
    [ -z "$database" ] || [ -s "$database" ] || had_no_database=yes
    make_user
    if [ -n "$staged" ]; then stage; else stage_in_place; fi
    switch
    fill_whitelist
    set_up_caddy
    plan_firewall
    set_up_firewall
    [ -n "$no_start" ] || first_password
    doctor
    if [ -z "$staged" ]; then in_git rev-parse HEAD >"$PROGRAM/.venv/installed" 2>/dev/null || rm -f "$PROGRAM/.venv/installed"; fi
    summary
}

main "$@"
exit
