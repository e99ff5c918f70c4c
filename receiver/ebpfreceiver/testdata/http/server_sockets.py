# A server of the tests of the group http that works at its sockets itself, in the
# way that its first argument names.
import ctypes
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NO_WAIT = socket.MSG_DONTWAIT


def value(request, name):
    line = request.split(b"\r\n", 1)[0] + b" "
    return line.split(name + b"=", 1)[1].split(b"&")[0].split(b" ")[0].decode() if name + b"=" in line else ""


def dial(request):
    host, _, port = value(request, b"to").partition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        pass


def answer_both(requests):
    """Works on requests only when there are two."""
    if len(requests) < 2:
        return requests
    for connection, request in requests:
        dial(request)
        connection.sendall(RESPONSE)
    return []


def serve_select(listener):
    """Blocking sockets, of which it reads those that have something."""
    connections, requests = [], []
    while True:
        for ready in select.select([listener] + connections, [], [])[0]:
            if ready is listener:
                connections.append(listener.accept()[0])
                continue
            request = ready.recv(65536)
            if request:
                requests.append((ready, request))
            else:
                connections.remove(ready)
        requests = answer_both(requests)


def serve_dontwait(listener):
    """Blocking sockets, of which it reads all without waiting."""
    connections, requests = [listener.accept()[0], listener.accept()[0]], []
    while True:
        for connection in connections:
            try:
                request = connection.recv(65536, NO_WAIT)
            except BlockingIOError:
                continue
            if request:
                requests.append((connection, request))
        requests = answer_both(requests)
        time.sleep(0.001)


def serve_in_turn(listener):
    """One connection after the other; waits before it takes one, and before it reads."""
    while True:
        select.select([listener], [], [])
        connection = listener.accept()[0]
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.poll()
        request = connection.recv(65536)
        dial(request)
        connection.sendall(RESPONSE)
        connection.close()


def serve_job(listener):
    """Takes a request, and does something else before it goes on with that."""
    connection = listener.accept()[0]
    request = connection.recv(65536)
    select.select([listener, connection], [], [], 0.01)
    dial(request)
    connection.sendall(RESPONSE)
    time.sleep(60)


def start_anew(commands):
    """What another process, or another program of this one, does: it listens, so that it is
    looked at, and dials when a datagram says so: who accepts or reads a request would be at
    something else by then."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody else would end it
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    while True:
        command, sender = commands.recvfrom(65536)
        if command != b"hello":
            dial(command)
        commands.sendto(command, sender)


def command_socket():
    commands = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    commands.bind(("127.0.0.1", 0))
    return commands


def accept_traced(listener, commands):
    """Reads requests until one has a traceparent, for which it dials. It does not answer that."""
    who = b"X-Pid: %d\r\nX-Commands: 127.0.0.1:%d\r\n\r\n" % (os.getpid(), commands.getsockname()[1])
    while True:
        connection = listener.accept()[0]
        request = connection.recv(65536)
        if b"traceparent" in request:
            dial(request)
            return connection
        connection.sendall(RESPONSE[:-2] + who)
        connection.close()


def serve_exec(listener):
    """Reads a request and becomes another program, which keeps the connection."""
    commands = command_socket()
    connection = accept_traced(listener, commands)
    os.set_inheritable(connection.fileno(), True)
    os.set_inheritable(commands.fileno(), True)
    os.execv(sys.executable, [sys.executable, sys.argv[0], "anew", str(commands.fileno())])


def serve_pid(listener):
    """A child reads a request and ends, but its own child keeps the connection; then another
    one gets its pid."""
    commands = command_socket()
    first = os.fork()
    if first == 0:
        connection = accept_traced(listener, commands)
        if os.fork() == 0:
            connection.recv(1)  # until the client closes it
        os._exit(0)
    os.waitpid(first, 0)
    give_up = time.monotonic() + 20
    problem = "others had it all the time"
    while time.monotonic() < give_up:
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(first - 1))
        except OSError as error:
            problem = str(error)
            break
        pid = os.fork()
        if pid == 0:
            if os.getpid() == first:
                start_anew(commands)
            os._exit(0)
        os.waitpid(pid, 0)
    _, sender = commands.recvfrom(65536)
    commands.sendto(b"no process got pid %d again: %s" % (first, problem.encode()), sender)


def respond(connection, how):
    if how == "pieces":
        connection.sendall(RESPONSE[:9])
        connection.sendall(RESPONSE[9:])
    elif how == "writev":
        os.writev(connection.fileno(), [RESPONSE[:9], RESPONSE[9:]])
    elif how == "sendmsg":
        connection.sendmsg([RESPONSE[:9], RESPONSE[9:]])
    elif how == "sendfile":
        with tempfile.TemporaryFile() as file:
            file.write(RESPONSE)
            file.flush()
            os.sendfile(connection.fileno(), file.fileno(), 0, len(RESPONSE))
    else:
        connection.sendall(RESPONSE)


def serve_late(listener):
    """Dials after the response, written in the way that the request asks for. It keeps
    the connections, since what ends with one must not depend on its end."""
    kept = []
    while True:
        connection = listener.accept()[0]
        kept.append(connection)
        request = connection.recv(65536)
        if value(request, b"held"):
            connection.recv(1)
        if value(request, b"before"):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            dial(request)
        respond(connection, value(request, b"how"))
        if not value(request, b"before"):
            dial(request)


def serve_pooled(listener):
    """Keeps one connection to the server at its second argument for all requests."""
    host, _, port = sys.argv[2].partition(":")
    upstream = socket.create_connection((host, int(port)))

    def serve(connection):
        while True:
            request = connection.recv(65536)
            if not request:
                return
            parts = [b"GET /", b"x HTTP/1.1\r\nHost: a\r\n\r\n"]
            for part in parts if value(request, b"how") == "pieces" else [b"".join(parts)]:
                upstream.sendall(part)
            upstream.recv(65536)
            connection.sendall(RESPONSE)

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def main():
    if sys.argv[1] == "anew":
        start_anew(socket.socket(fileno=int(sys.argv[2])))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    print("127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    globals()["serve_" + sys.argv[1]](listener)


main()
