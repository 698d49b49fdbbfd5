"""Your settings. Change a value here, or override it by the environment as RESENDER_<NAME>.

An empty value means the default or, for lists, none. A name or value that is wrong stops the
start with one clear line. docs/reference/settings.md explains every setting; restart after a change.
Names that end in _S are seconds, _MS milliseconds, _MINUTES minutes, _HOURS hours, _DAYS days, _BYTES bytes.
The comments are those of resender/config.py: `make docs-tables` writes them, your values stay.
"""

# --- Where the gateway listens and keeps its data ---------------------------------------------

# Address to listen on. `::` = IPv6 and IPv4, `127.0.0.1` = this machine only.
HOST = "0.0.0.0"

# Port to listen on. `0` = the system chooses one.
PORT = 8000

# Domain of this gateway's own names for Binance's hosts: with `gw.example`, `fapi.gw.example`
# stands for `fapi.binance.com`, `stream.gw.example` for `stream.binance.com`. Empty = off.
HOST_SUFFIX = ""

# File of the certificate and its chain (PEM) to serve over TLS; read again when it changes. Empty =
# no TLS.
TLS_CERT = ""

# File of the certificate's private key (PEM); empty = it is in the file of `TLS_CERT`.
TLS_KEY = ""

# Folder of the database and of the saved candles. A relative path starts beside `run.py`.
DATA_DIR = "data"

# Database; empty = SQLite in `DATA_DIR`.
# Example: "postgresql://user:password@host/name"
DATABASE_URL = ""

# --- Who may call ------------------------------------------------------------------------------

# Addresses, networks and DNS names put into the whitelist when the database is created, never
# again. Later: `run.py whitelist`.
# Example: ["203.0.113.5", "198.51.100.0/24", "2001:db8::/32"]
WHITELIST = []

# Reverse proxies whose `X-Forwarded-For` or `X-Real-IP` is believed; nobody else's is.
TRUSTED_PROXIES = []

# Who sends it as `Authorization: Bearer` may read `/metrics` from any address, 16 characters at
# least; empty = only clients of the whitelist may.
METRICS_TOKEN = ""

# Hosts that whitelisted clients may reach with `CONNECT host:443`, TLS untouched. Empty = off.
PROXY_HOSTS = []

# --- Admin pages (/admin) ----------------------------------------------------------------------

# Serve the admin pages under `/admin`; `false` = none at all.
ADMIN_ENABLED = True

# A port of their own for the admin pages; then `/admin` exists only there. `0` = the same port.
ADMIN_PORT = 0

# Address the admin pages listen on when they have a port of their own.
ADMIN_HOST = "127.0.0.1"

# Addresses and networks that may reach the admin pages; empty = any.
ADMIN_WHITELIST = []

# First password of the admin account root, used once; a weak one is refused at the start. Empty = a
# random one is made and printed to the console.
ADMIN_PASSWORD = ""

# A log-in not used for so long has to be repeated.
ADMIN_IDLE_MINUTES = 720

# A log-in has to be repeated after so long in any case.
ADMIN_SESSION_HOURS = 168

# --- Binance -----------------------------------------------------------------------------------

# REST base URL of spot and sapi. `off` = not served.
UPSTREAM_API = "https://api.binance.com"

# REST base URL of USD-M futures. `off` = not served.
UPSTREAM_FAPI = "https://fapi.binance.com"

# REST base URL of COIN-M futures. `off` = not served.
UPSTREAM_DAPI = "https://dapi.binance.com"

# REST base URL of options. `off` = not served.
UPSTREAM_EAPI = "https://eapi.binance.com"

# REST base URL of portfolio margin. `off` = not served.
UPSTREAM_PAPI = "https://papi.binance.com"

# Base URL of Binance's files of past market data, read as `/data.binance.vision/...`. `off` = not
# served.
UPSTREAM_DATA = "https://data.binance.vision"

# WebSocket base URL of spot market data, without a path. Belongs to `UPSTREAM_API`: change both.
STREAM_SPOT = "wss://stream.binance.com:9443"

# WebSocket base URL of USD-M market data; `/market` and `/public` are added. Belongs to
# `UPSTREAM_FAPI`.
STREAM_UM = "wss://fstream.binance.com"

# WebSocket base URL of COIN-M market data. Belongs to `UPSTREAM_DAPI`.
STREAM_CM = "wss://dstream.binance.com"

# WebSocket base URL of the margin risk stream, for clients. Belongs to `UPSTREAM_API`.
STREAM_MARGIN = "wss://margin-stream.binance.com"

# Base URL of the spot WebSocket API, for clients. Belongs to `UPSTREAM_API`.
WS_API_SPOT = "wss://ws-api.binance.com:443"

# Base URL of the USD-M WebSocket API, for clients. Belongs to `UPSTREAM_FAPI`.
WS_API_UM = "wss://ws-fapi.binance.com"

# Base URL of the COIN-M WebSocket API, for clients. Belongs to `UPSTREAM_DAPI`.
WS_API_CM = "wss://ws-dapi.binance.com"

# --- Egresses (several IPs) and weight -----------------------------------------------------------

# Egresses to Binance; empty = the machine's default route.
# Example: ["203.0.113.5", "hk=socks5://user:pw@host:1080;markets=um+cm", "resender://host:8000"]
EGRESS = []

# API keys bound to one egress: `<first 8 or more characters of the key>=<name>` or `sha256:<hex of
# the key>=<name>`.
# Example: ["abcdEFGH12=hk"]
EGRESS_PINS = []

# Share of each pool's weight that only order calls may use.
ORDER_WEIGHT_RESERVE = 0.1

# Largest share of a pool's weight a minute for one client address; `1` = no limit.
CLIENT_WEIGHT_SHARE = 1.0

# Spot weight a minute and address until exchangeInfo tells the limit.
WEIGHT_LIMIT_SPOT = 6000

# Weight a minute and address of USD-M and COIN-M, which share one pool, until exchangeInfo tells
# the limit.
WEIGHT_LIMIT_FUTURES = 2400

# Options weight a minute and address until exchangeInfo tells the limit.
WEIGHT_LIMIT_OPTIONS = 400

# Portfolio margin weight a minute and address; no exchangeInfo tells it.
WEIGHT_LIMIT_PM = 6000

# Weight a minute and address of each single sapi path.
WEIGHT_LIMIT_SAPI = 12_000

# How long an unsigned public GET's answer serves equal calls. `0` = off.
GET_MEMORY_MS = 0

# How long an exchangeInfo answer serves equal calls. `0` = off.
EXCHANGE_INFO_MEMORY_S = 60

# How old answers may be that no stream can prove, by path in milliseconds:
# `ticker/24hr=2000,um:premiumIndex=1000`. What is not named is forwarded, unless the client itself
# sends `Cache-Control: max-age`.
CONSENT_MAX_AGE_MS = []

# --- Limits and waits (seconds) ----------------------------------------------------------------

# Longest wait for DNS, TCP and TLS of a new connection to Binance.
CONNECT_TIMEOUT_S = 5

# Longest silence of Binance while an answer is awaited or read. Binance itself gives up after 10 s.
# Also the longest time a client may take to send its body.
READ_TIMEOUT_S = 20

# Longest time of one call, from its start to the last byte handed over.
TOTAL_TIMEOUT_S = 120

# How long an idle connection to Binance is kept for the next call.
KEEPALIVE_S = 55

# How long the addresses of a host are remembered.
DNS_CACHE_S = 300

# How long an idle connection of a client is kept, as is announced to it; it is closed 10 s later.
CLIENT_IDLE_S = 330

# Calls under way at once; one more is answered 503.
MAX_IN_FLIGHT = 1000

# Largest request body; a larger one is answered 413.
MAX_BODY_BYTES = 1_048_576

# How long calls in flight may take to end when the gateway is stopped.
SHUTDOWN_S = 10

# --- Market cache ------------------------------------------------------------------------------

# Answer market data from memory. `false` = always forward.
CACHE_ENABLED = True

# Series kept ready from the start, such as `um:*USDT@1m,bookTicker,depth20`.
# Example: "spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m"
PRELOAD = ""

# Candles kept of each series.
KLINE_DEPTH = 1500

# Series of all markets kept because somebody asked; beyond it calls are forwarded.
MAX_ON_DEMAND_SERIES = 300

# Order books and trades of all markets kept because somebody asked. Each may bring 0.1 Mbit/s and
# more; after five minutes without a call they are dropped.
MAX_ON_DEMAND_BOOKS = 50

# A series nobody asked for in so long is dropped, unless a rule wants it.
STREAM_IDLE_MINUTES = 30

# How long a call at a candle's end waits for the closing event before a REST read settles it.
SETTLE_WAIT_MS = 250

# Which stream USD-M candles come from: continuous (closes all symbols about 0.1 s after the close)
# where Binance has one for the symbol, or plain for all.
UM_KLINE_STREAM = "continuous"

# How often the list of symbols is read again.
SYMBOL_REFRESH_S = 60

# Share of the weight per minute that the gateway's own reads may use.
BACKFILL_WEIGHT_SHARE = 0.5

# Streams carried by one connection. Binance allows 1024.
STREAMS_PER_CONNECTION = 200

# A stream connection from which nothing came for so long is dead.
STREAM_SILENCE_S = 10

# A series without an event of its own for so long (a spot candle: twice as long) is answered only
# if a second source says that nothing was missed.
STREAM_QUIET_S = 10

# A row read by REST is final if the read was made so long after the candle's close.
REST_FINAL_AFTER_MS = 1500

# How often closed candles are saved for a warm restart.
CANDLE_SAVE_S = 300

# --- Streams for clients -------------------------------------------------------------------------

# WebSockets of clients at once; one more is answered 503. `0` = none are served.
MAX_STREAM_CLIENTS = 1000

# Different streams held for all clients together; over it a client gets Binance's own error, code
# 4.
MAX_CLIENT_STREAMS = 5000

# What may wait for a client that reads too slowly. Beyond, of tickers and order books only the
# newest is kept; where every event counts the client is closed with 1008.
CLIENT_QUEUE_BYTES = 1_048_576

# A stream is kept for so long after its last client has left.
STREAM_LINGER_S = 10

# Send a client the newest ticker, order book or candle at once when it subscribes, not only at the
# next change.
STREAM_LAST_FRAME = True

# Compress streams for clients that offer permessage-deflate: books to a fifth, candles to half.
STREAM_DEFLATE = False

# `/local/.../closes` tells what is final by then, so long after a close. `0` = only when all are.
CLOSE_FIRST_MS = 0

# `/local/.../closes` names what is not final by then, so long after a close; it follows later.
CLOSE_DEADLINE_MS = 3500

# --- Accounts ----------------------------------------------------------------------------------

# How long orders that have ended can be asked for where an account is watched. Units: hours.
ACCOUNT_HISTORY_HOURS = 24

# How long a client's address and API key are believed to belong together after Binance has taken a
# signed call of them. Units: hours.
ACCOUNT_PROOF_HOURS = 24

# How long a call waits for the event of an order that the account has just changed before it is
# forwarded.
ACCOUNT_WAIT_MS = 300

# How often an account with a key of its own is compared with REST. Units: minutes.
ACCOUNT_RECONCILE_MINUTES = 15

# Seals the secrets of accounts, 32 characters at least; empty = a key in the file account.key of
# DATA_DIR.
SECRET_KEY = ""

# --- Several nodes -----------------------------------------------------------------------------

# Processes that serve the port together, each on a core; `auto` = as many as cores.
WORKERS = 1

# Redis that several nodes share; empty = this is the only node.
# Example: "redis://user:password@host:6379/0"
REDIS_URL = ""

# Name of this node, another one for each; empty = host name and port.
NODE_NAME = ""

# Base URL under which the other nodes reach this one; empty = they do not.
# Example: "http://10.0.0.5:8000"
NODE_URL = ""

# The same on all nodes, 32 characters at least: by it they know each other. Needed with `NODE_URL`.
NODE_SECRET = ""

# What this node is for, `all` or a list: `front` (clients), `collector` (Binance, market data,
# accounts), `admin` (pages). One that is no collector sends everything through others.
ROLES = "all"

# Clients get streams from one of the nodes, which opens each once for all nodes.
SHARE_STREAMS = True

# --- Alerts ------------------------------------------------------------------------------------

# Name of the egress alerts leave by; empty = the machine's default route.
ALERT_EGRESS = ""

# An alert tells of market data that has not been live for so long.
ALERT_CACHE_S = 120

# An alert tells when less is free where `DATA_DIR` lies. Units: MB.
ALERT_FREE_DISK_MB = 500

# An alert tells of so many refused calls of addresses outside the whitelist within ten minutes.
ALERT_REFUSED = 100

# --- Logs --------------------------------------------------------------------------------------

# Detail of the process log on standard error: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
LOG_LEVEL = "INFO"

# Form of the process log: text, or json with one object a line.
LOG_FORMAT = "text"

# Rows of the request log older than this are removed.
LOG_RETENTION_DAYS = 30

# Rows the request log keeps; the oldest go.
LOG_MAX_ROWS = 1_000_000

# Log rows that may wait for the database; more are dropped and counted.
LOG_QUEUE_SIZE = 10_000
