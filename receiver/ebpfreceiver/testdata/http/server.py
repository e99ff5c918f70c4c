# The server of the tests of the group http, with a thread for each connection.
import http.client
import http.server
import random
import socket
import sys
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
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

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def call(self, address, traceparent):
        connection = http.client.HTTPConnection(address)
        headers = {"traceparent": traceparent} if traceparent else {}
        connection.request("GET", "/?status=404", headers=headers)
        connection.getresponse().read()
        connection.close()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print("127.0.0.1:%d" % server.server_address[1])
sys.stdout.flush()
server.serve_forever()
