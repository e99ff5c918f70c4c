# The server of the tests of the group http, with a thread for each connection.
#
# usage: server.py [ADDRESS [fork|exec]]
#
# With ADDRESS, of a receiver of OTLP/HTTP, it does what an SDK would: it exports a span
# before it listens, and one of each request, all over one connection. With fork a child
# serves; with exec it begins anew after the first export, without ADDRESS.
#
# When TLS_FILE names a file with a key and a certificate, it serves over TLS; it then
# calls others over TLS too, and trusts that certificate.
import ctypes
import http.client
import http.server
import json
import os
import random
import socket
import ssl
import sys
import threading
import time
import urllib.parse


class Exporter:
    def __init__(self, address):
        self.lock = threading.Lock()
        self.connection = http.client.HTTPConnection(address)

    def export(self, trace, parent, begun):
        span = {
            "traceId": trace, "spanId": os.urandom(8).hex(), "parentSpanId": parent, "name": "GET", "kind": 2,
            "startTimeUnixNano": str(begun), "endTimeUnixNano": str(time.time_ns()),
        }
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
        with self.lock:
            self.connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
            self.connection.getresponse().read()


exporter = None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        begun = time.time_ns()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)
        if "sleep" in query:
            time.sleep(random.uniform(0, 0.01))
        if "call" in query:
            self.call(query["call"][0], query.get("traceparent", [""])[0])
        if "to" in query:
            host, _, port = query["to"][0].partition(":")
            try:
                socket.create_connection((host, int(port)), 5).close()
            except OSError:
                pass
        self.send_response(int(query.get("status", ["200"])[0]))
        self.send_header("Content-Length", "0")
        self.end_headers()
        if exporter:
            _, trace, parent, _ = self.headers["traceparent"].split("-")
            exporter.export(trace, parent, begun)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def call(self, address, traceparent):
        if certificate:
            connection = http.client.HTTPSConnection(address, context=ssl.create_default_context(cafile=certificate))
        else:
            connection = http.client.HTTPConnection(address)
        headers = {"traceparent": traceparent} if traceparent else {}
        connection.request("GET", "/?status=404", headers=headers)
        connection.getresponse().read()
        connection.close()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


if len(sys.argv) > 1:
    exporter = Exporter(sys.argv[1])
    exporter.export(os.urandom(16).hex(), "", time.time_ns())
    if "exec" in sys.argv:
        os.execv(sys.executable, [sys.executable, __file__])
    if "fork" in sys.argv and os.fork():
        os.wait()
        sys.exit()
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL

certificate = os.environ.get("TLS_FILE")
server = Server(("127.0.0.1", 0), Handler)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("127.0.0.1:%d" % server.server_address[1])
sys.stdout.flush()
server.serve_forever()
