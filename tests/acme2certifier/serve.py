"""Serves acme2certifier over TLS, on the ports of a local cloud.

    serve.py ADDRESS PORT DNS_PORT CHALLENGE_PORT CERTIFICATE KEY

The package asks DNS at port 53 and fetches challenges from port 80. Both are fixed in its code, and
a test may use neither. All else is as installed. ACME_SRV_CONFIGFILE names its configuration.
"""

import ssl
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

import dns.resolver

ADDRESS, PORT, DNS_PORT, CHALLENGE_PORT, CERTIFICATE, KEY = sys.argv[1:]

reset = dns.resolver.Resolver.reset


def reset_with_port(resolver):
    reset(resolver)
    resolver.port = int(DNS_PORT)


dns.resolver.Resolver.reset = reset_with_port

from acme2certifier.acme_srv.helpers import network  # noqa: E402

# A resolved address is fetched under the first, with a Host header of the second.
network._http_url_host = lambda address: f"{address}:{CHALLENGE_PORT}"
network._http_host_header = lambda name: name

from acme2certifier.share.acme2certifier_wsgi import application, get_handler_cls  # noqa: E402


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


server = make_server(
    ADDRESS, int(PORT), application, server_class=Server, handler_class=get_handler_cls()
)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
# A connection's own thread does the handshake, so that a slow client does not stop the others.
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.base_environ["HTTPS"] = "on"
server.serve_forever()
