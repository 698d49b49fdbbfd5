"""Your settings. Change a value here, or override it by the environment as RESENDER_<NAME>.

An empty value means the default or, for lists, none. A name or value that is wrong stops the
start with one clear line. The README explains every setting; restart after a change.
"""

# --- Where the gateway listens and keeps its data ---------------------------------------------

# Address to listen on: "0.0.0.0" all IPv4 addresses, "::" IPv6 too, "127.0.0.1" this machine only.
HOST = "0.0.0.0"

# Port to listen on.
PORT = 8000

# Folder of the database; a relative path starts beside run.py.
DATA_DIR = "data"

# Database; empty = SQLite in DATA_DIR. Also "postgresql://user:password@host/name" or "mysql://...".
DATABASE_URL = ""

# --- Who may call ------------------------------------------------------------------------------

# Addresses and networks put into the whitelist when the database is created, never again.
# Example: ["203.0.113.5", "198.51.100.0/24", "2001:db8::/32"]
WHITELIST = []

# Reverse proxies in front of the gateway whose X-Forwarded-For or X-Real-IP is believed.
# Leave it empty unless there is one: whoever is listed here can name any client address.
TRUSTED_PROXIES = []

# --- Admin pages (/admin) ----------------------------------------------------------------------

# Serve the admin pages; False = none at all.
ADMIN_ENABLED = True

# A port of their own for the admin pages, on ADMIN_HOST; 0 = the same port as the gateway.
ADMIN_PORT = 0
ADMIN_HOST = "127.0.0.1"

# Addresses and networks that may reach the admin pages; empty = any.
ADMIN_WHITELIST = []

# First password of the admin account "root", used once; empty = a random one is made and printed.
ADMIN_PASSWORD = ""

# A log-in not used for so many minutes has to be repeated ...
ADMIN_IDLE_MINUTES = 720

# ... and after so many hours in any case.
ADMIN_SESSION_HOURS = 168

# --- Binance -----------------------------------------------------------------------------------

# REST base URLs, without a path. "off" = this market is not served.
UPSTREAM_API = "https://api.binance.com"  # spot and sapi
UPSTREAM_FAPI = "https://fapi.binance.com"  # USD-M futures
UPSTREAM_DAPI = "https://dapi.binance.com"  # COIN-M futures
UPSTREAM_EAPI = "https://eapi.binance.com"  # options
UPSTREAM_PAPI = "https://papi.binance.com"  # portfolio margin

# WebSocket base URLs of market data, without a path.
STREAM_SPOT = "wss://stream.binance.com:9443"
STREAM_UM = "wss://fstream.binance.com"  # /market, /public and /private are added
STREAM_CM = "wss://dstream.binance.com"

# Base URL of the spot WebSocket API, without a path.
WS_API_SPOT = "wss://ws-api.binance.com:443"

# --- Egresses (several IPs) and weight -----------------------------------------------------------

# Egresses to Binance; empty = the machine's default route. Local addresses, proxies or another
# Binance Resender: ["203.0.113.5", "hk=socks5://user:pw@host:1080;markets=um+cm", "resender://host:8000"]
EGRESS = []

# API keys bound to one egress: "<first 8 or more characters of the key>=<name>" or "sha256:<hex>=<name>".
EGRESS_PINS = []

# Share of each pool's weight that only order calls may use.
ORDER_WEIGHT_RESERVE = 0.1

# Largest share of a pool's weight a minute for one client address; 1 = no limit.
CLIENT_WEIGHT_SHARE = 1.0

# Weight a minute and address until exchangeInfo tells the real limit (portfolio margin and sapi
# have none that could be read; on sapi each path has its own).
WEIGHT_LIMIT_SPOT = 6000
WEIGHT_LIMIT_FUTURES = 2400
WEIGHT_LIMIT_OPTIONS = 400
WEIGHT_LIMIT_PM = 6000
WEIGHT_LIMIT_SAPI = 12_000

# How long (milliseconds) an unsigned public GET's answer serves equal calls; 0 = off.
GET_MEMORY_MS = 0

# How long (seconds) an exchangeInfo answer serves equal calls; 0 = off.
EXCHANGE_INFO_MEMORY_S = 60

# --- Limits and waits (seconds) ----------------------------------------------------------------

# Longest wait for DNS, TCP and TLS of a new connection to Binance.
CONNECT_TIMEOUT_S = 5

# Longest silence of Binance while an answer is awaited or read. Binance itself gives up after 10.
READ_TIMEOUT_S = 20

# Longest time of one call, from its start to the last byte handed to the client.
TOTAL_TIMEOUT_S = 120

# How long an idle connection to Binance is kept for the next call.
KEEPALIVE_S = 55

# How long the addresses of a host are remembered.
DNS_CACHE_S = 300

# How long an idle connection of a client is kept, as is announced to it; it is closed some seconds later.
CLIENT_IDLE_S = 330

# Calls under way at once; one more is answered 503 at once.
MAX_IN_FLIGHT = 1000

# Largest request body in bytes; a larger one is answered 413.
MAX_BODY_BYTES = 1_048_576

# How long calls in flight may take to end when the gateway is stopped.
SHUTDOWN_S = 10

# --- Market cache ------------------------------------------------------------------------------

# Answer klines and bookTicker from live streams; False = always forward.
CACHE_ENABLED = True

# Series kept ready from the start: market, symbols or globs, intervals and bookTicker.
# Example: "spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m"
PRELOAD = ""

# Candles kept of each series.
KLINE_DEPTH = 1500

# Series and tickers kept because somebody asked for them; beyond it calls are just forwarded.
MAX_ON_DEMAND_SERIES = 300

# A series nobody asked for in so many minutes is dropped, unless a rule wants it.
STREAM_IDLE_MINUTES = 30

# How long (milliseconds) a call waits for a candle's final event before one read settles it.
SETTLE_WAIT_MS = 250

# How often (seconds) the list of symbols is read again.
SYMBOL_REFRESH_S = 60

# Share of a pool's weight a minute that the gateway's own reads may use.
BACKFILL_WEIGHT_SHARE = 0.5

# Streams carried by one connection; Binance allows 1024, fewer are safer.
STREAMS_PER_CONNECTION = 200

# A stream connection from which nothing came for so many seconds is dead.
STREAM_SILENCE_S = 10

# A series without an event of its own for so many seconds (a spot candle twice as many) is answered
# only if a second source says that nothing was missed.
STREAM_QUIET_S = 10

# A row read by REST is final if the read was made so long (milliseconds) after the candle's close.
REST_FINAL_AFTER_MS = 1500

# How often (seconds) closed candles are saved for a warm restart.
CANDLE_SAVE_S = 300

# --- Logs --------------------------------------------------------------------------------------

# Detail of the process log on standard error: DEBUG, INFO, WARNING or ERROR.
LOG_LEVEL = "INFO"

# Form of the process log: "text", or "json" with one object a line.
LOG_FORMAT = "text"

# The request log in the database is off until `python run.py log on`. Its rows go when they are
# older than this many days ...
LOG_RETENTION_DAYS = 30

# ... or when there are more than this many.
LOG_MAX_ROWS = 1_000_000

# Rows that may wait for the database; more are dropped and counted.
LOG_QUEUE_SIZE = 10_000
