"""Ask the gateway of this container for /healthz: exit 0 if it is well. The image's health check.

It reads the same settings as the gateway, so it follows RESENDER_PORT, RESENDER_HOST and RESENDER_TLS_CERT.
"""

import http.client
import ssl
import sys

from resender.config_loading import load_config
from resender.settings_file import read_settings_file

config = load_config(read_settings_file())
host = "127.0.0.1" if config.host in ("", "0.0.0.0", "::") else config.host
if config.tls_cert:
    # Whose name is in the certificate does not matter here.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, config.port, timeout=8, context=context)
else:
    connection = http.client.HTTPConnection(host, config.port, timeout=8)
try:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    body = answer.read()
except OSError as error:
    sys.exit(f"/healthz cannot be asked: {error}")
finally:
    connection.close()
# A node that was drained on purpose answers 503 and is well.
if answer.status == 200 or (answer.status == 503 and b'"draining":true' in body):
    sys.exit(0)
sys.exit(f"/healthz answers {answer.status}: {body[:200]!r}")
