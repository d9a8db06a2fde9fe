#!/usr/bin/env python3
"""bursar's HTTP/2 side (h2c) from other hands: Python's h2 as the application, raw frames where h2 would refuse to send
them, and h2load (Debian: nghttp2-client) for load, if it is on the PATH.

Needs Python 3.11 and the package `h2` (which brings `hpack` and `hyperframe`); BURSAR_BIN names the binary, or else
target/release/bursar is taken. Prints a line per test; exits with 1 if any has failed.
"""

import contextlib
import http.server
import json
import multiprocessing
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import h2.config
import h2.connection
import h2.errors
import h2.events
import hpack

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("BURSAR_BIN", str(ROOT / "target/release/bursar"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
PATIENCE = 20.0
SETUP = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
# Of both `header_timeout` and `idle_timeout`: short, so that a test can wait for it.
TIMEOUT = 2.0


class Lms(http.server.ThreadingHTTPServer):
    """Counts what reaches it. /api/together answers when as many have come as it waits for; /api/held when it is let go."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), LmsHandler)
        self.lock = threading.Condition()
        self.calls = 0
        self.target = None
        self.arrived = 0
        self.wanted = 0
        self.gate = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def await_arrivals(self, count):
        with self.lock:
            assert self.lock.wait_for(lambda: self.arrived >= count, PATIENCE), f"{self.arrived} of {count} arrived"

    def handle_error(self, request, client_address):
        """A connection that bursar has given up is part of the tests."""


class LmsHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        lms = self.server
        with lms.lock:
            lms.calls += 1
            lms.target = self.requestline.split(" ", 1)[1].rsplit(" ", 1)[0]
        body = b"ok"
        if self.path == "/api/big":
            body = b"x" * 4_000_000
        elif self.path in ("/api/together", "/api/held"):
            with lms.lock:
                lms.arrived += 1
                lms.lock.notify_all()
                if self.path == "/api/together":
                    lms.lock.wait_for(lambda: lms.arrived >= lms.wanted, PATIENCE)
            if self.path == "/api/held":
                lms.gate.wait(PATIENCE)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *words):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bursar:
    """The built program between us and the LMS."""

    def __init__(self, lms, directory):
        self.port, self.admin, control = free_port(), free_port(), free_port()
        config = pathlib.Path(directory) / "bursar.toml"
        config.touch(mode=0o600)
        config.write_text(f"""
[server]
listen = "127.0.0.1:{self.port}"
workers = 2
header_timeout = "{TIMEOUT:.0f}s"
idle_timeout = "{TIMEOUT:.0f}s"
[admin]
listen = "127.0.0.1:{self.admin}"
control = "127.0.0.1:{control}"
[credentials.app]
profile = "oauth2"
grant = "static"
token = "canary-token"
[upstreams.lms]
base_url = "http://127.0.0.1:{lms.server_port}"
credential = "app"
scopes = ["api:read"]
max_connections = 400
[[upstreams.lms.routes]]
name = "api"
methods = ["GET", "POST"]
path = "/api/{{*rest}}"
scopes = ["api:read"]
""")
        self.log = open(pathlib.Path(directory) / "log", "w+")
        self.process = subprocess.Popen([BINARY, "run", "--config", str(config)], stdout=self.log, stderr=self.log)
        wait_for("bursar is ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, f"bursar has ended\n{self.read_log()}"
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        return False

    def metric(self, series):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(series + " "):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def read_log(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()[-4000:]

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def wait_for(what, condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


class Application:
    """A well-behaved application: h2, and a record of what came on each stream."""

    def __init__(self, bursar, reads=True):
        self.socket = socket.create_connection(("127.0.0.1", bursar.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.authority = f"127.0.0.1:{bursar.port}"
        self.h2 = h2.connection.H2Connection(SETUP)
        self.h2.initiate_connection()
        # Streams to whose answers room is made.
        self.reads = reads
        self.status, self.body, self.ended, self.reset = {}, {}, set(), {}
        self.goaway = None
        self.closed = False
        self.buffer = b""
        self.flush()

    def flush(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(self.h2.data_to_send())

    def get(self, path, method="GET", fields=(), ends=True):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=ends)
        self.flush()
        return stream

    def receive(self, until, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not until():
            left = deadline - time.monotonic()
            assert left > 0, f"never came: GOAWAY {self.goaway}, {len(self.reset)} streams reset"
            self.socket.settimeout(min(left, 0.2))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                self.closed = True
                assert until(), f"closed early: GOAWAY {self.goaway}, {len(self.reset)} streams reset"
                return
            for event in self.h2.receive_data(self.without_goaway(data)):
                self.note(event)
            self.flush()

    def without_goaway(self, data):
        """Python's h2 takes a GOAWAY for the end of everything; streams that are open go on (RFC 9113 section 6.8)."""
        self.buffer += data
        rest = b""
        while len(self.buffer) >= 9:
            end = 9 + int.from_bytes(self.buffer[:3])
            if len(self.buffer) < end:
                break
            if self.buffer[3] == GOAWAY:
                self.goaway = int.from_bytes(self.buffer[13:17])
            else:
                rest += self.buffer[:end]
            self.buffer = self.buffer[end:]
        return rest

    def note(self, event):
        match event:
            case h2.events.ResponseReceived():
                self.status[event.stream_id] = int(dict(event.headers)[":status"])
                assert "connection" not in dict(event.headers)
            case h2.events.DataReceived():
                self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
                room = event.flow_controlled_length
                if self.reads is True or event.stream_id in self.reads:
                    self.h2.acknowledge_received_data(room, event.stream_id)
                elif room:
                    # On the connection only.
                    self.h2.increment_flow_control_window(room)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.reset[event.stream_id] = event.error_code

    def status_of(self, path, **more):
        stream = self.get(path, **more)
        self.receive(lambda: stream in self.ended or stream in self.reset)
        return self.status.get(stream)

    def code_of(self, stream):
        return json.loads(self.body[stream])["code"]

    def close(self):
        self.socket.close()


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Raw:
    """An application without manners: it sends the frames that it is given."""

    def __init__(self, bursar):
        self.socket = socket.create_connection(("127.0.0.1", bursar.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With room for all answers together: it makes none later.
        room = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x3FFFFFFF))
        self.socket.sendall(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK) + room)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.authority = f"127.0.0.1:{bursar.port}"
        self.buffer = b""
        self.next = 1

    def head(self, path="/api/x", method="GET"):
        return [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]

    def request(self, fields, flags=END_HEADERS | END_STREAM):
        """The frame of a request on the next stream, and the stream."""
        stream, self.next = self.next, self.next + 2
        return frame(HEADERS, flags, stream, self.encoder.encode(fields)), stream

    def send(self, data):
        """Whether bursar still took it."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def frames(self, patience=PATIENCE):
        """What comes, until nothing does."""
        self.socket.settimeout(patience)
        while True:
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3])
                if len(self.buffer) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
                payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
                yield kind, flags, stream, payload
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            self.buffer += data

    def until(self, kind, stream=None):
        for got, _, on, payload in self.frames():
            if got == kind and stream in (None, on):
                return payload
        return None

    def close(self):
        self.socket.close()


def the_reason_to_end(raw, flood, patience):
    """Sends until bursar has had enough; the code of its GOAWAY, `None` if it just closed or bore it all."""
    deadline = time.monotonic() + patience

    def pour():
        for piece in flood:
            if time.monotonic() > deadline or not raw.send(piece):
                return

    pouring = threading.Thread(target=pour, daemon=True)
    pouring.start()
    reason = None
    for kind, _, _, payload in raw.frames(2.0):
        if kind == GOAWAY:
            reason = int.from_bytes(payload[4:8])
            if reason:
                break
    raw.close()
    pouring.join(PATIENCE)
    return reason


def flood_again_and_again(bursar, flood, seconds, outcomes):
    """In a process of its own, so that it takes no time from those who are measured beside it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            raw = Raw(bursar)
            outcomes.put((the_reason_to_end(raw, flood(raw), 4.0), time.monotonic() - begun))


def ask_again_and_again(bursar, _flood, seconds, _outcomes):
    """What an ordinary application costs the others: it takes time of the same two cores, and connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        application = Application(bursar)
        assert application.status_of("/api/x") == 200
        application.close()


def latencies(application, goes_on):
    """How long requests take, one after the other."""
    taken = []
    while goes_on(len(taken)):
        asked = time.monotonic()
        assert application.status_of("/api/x") == 200
        taken.append(time.monotonic() - asked)
    return taken


def p99(taken):
    return sorted(taken)[len(taken) * 99 // 100]


def a_hundred_requests_are_in_flight_at_once(bursar, lms):
    application = Application(bursar)
    lms.arrived, lms.wanted = 0, 100
    streams = [application.get("/api/together") for _ in range(100)]
    application.receive(lambda: application.ended >= set(streams))
    assert {application.status[stream] for stream in streams} == {200}
    application.close()


def an_answer_that_is_not_taken_is_cut_and_the_others_go_on(bursar, _lms):
    application = Application(bursar, reads={3, 5, 7, 9, 11})
    stalled = application.get("/api/big")
    begun = time.monotonic()
    for _ in range(4):
        assert application.status_of("/api/x") == 200
        time.sleep(TIMEOUT / 8)
    application.receive(lambda: stalled in application.reset, TIMEOUT + 3)
    assert time.monotonic() - begun > TIMEOUT * 0.9
    assert application.status_of("/api/x") == 200
    application.close()
    active = 'bursar_upstream_connections{state="active",upstream="lms"}'
    wait_for("the LMS is let go", lambda: bursar.metric(active) == 0)


def malformed_heads_are_errors_and_nothing_leaves(bursar, lms):
    before = lms.calls
    raw = Raw(bursar)
    good = raw.head()
    without = lambda name: [field for field in good if field[0] != name]
    with_path = lambda path: [*without(":path"), (":path", path)]
    malformed = {
        "upper case": [*good, ("X-Upper", "a")],
        "connection": [*good, ("connection", "close")],
        "keep-alive": [*good, ("keep-alive", "1")],
        "transfer-encoding": [*good, ("transfer-encoding", "chunked")],
        "upgrade": [*good, ("upgrade", "websocket")],
        "te": [*good, ("te", "gzip")],
        "LF in a value": [*good, ("x", "a\nb: c")],
        "CR in a value": [*good, ("x", "a\rb")],
        "NUL in a value": [*good, ("x", "a\0b")],
        "a space in a name": [*good, ("a b", "c")],
        "a colon in a name": [*good, ("a:b", "c")],
        "a path that is none": with_path("api/x"),
        "an empty path": with_path(""),
        "a path with a space": with_path("/api/x HTTP/1.1"),
        "a path with CR LF": with_path("/api/x\r\nx: y"),
        "no path": without(":path"),
        "no scheme": without(":scheme"),
        "no method": without(":method"),
        "two paths": [*good, (":path", "/api/y")],
        "an unknown pseudo-header field": [*good, (":other", "x")],
        "a pseudo-header field of answers": [*good, (":status", "200")],
        "a pseudo-header field after the others": [*without(":path"), ("x", "y"), (":path", "/api/x")],
        "a length that is none": [*good, ("content-length", "x")],
        "two lengths": [*good, ("content-length", "1"), ("content-length", "2")],
        "a method with a space": [(":method", "GET /smug"), *without(":method")],
        "a length without a body": [*good, ("content-length", "5")],
    }
    counted = 'bursar_policy_decisions_total{decision="deny",reason="framing",route="_unmatched",upstream="_none"}'
    framing = bursar.metric(counted)
    ended = []
    for what, fields in malformed.items():
        data, stream = raw.request(fields)
        assert raw.send(data), what
        for kind, _, on, payload in raw.frames():
            if kind == GOAWAY or on == stream and kind in (RST_STREAM, HEADERS):
                break
        else:
            raise AssertionError(f"{what}: no answer")
        if kind == HEADERS:
            status = dict(raw.decoder.decode(payload))[":status"]
            assert status == "400", f"{what}: {status}"
        if kind == GOAWAY:
            # RFC 9113 section 5.4.1: an error of a stream may be taken for one of the connection.
            assert int.from_bytes(payload[4:8]) == h2.errors.ErrorCodes.PROTOCOL_ERROR, what
            ended.append(what)
            raw.close()
            raw = Raw(bursar)
    print(f"      of {len(malformed)}, these end the connection: {', '.join(ended)}")
    wait_for("each of them is counted", lambda: bursar.metric(counted) >= framing + len(ended))
    data, stream = raw.request(good)
    raw.send(data)
    assert raw.until(HEADERS, stream), "the connection goes on"
    assert lms.calls == before + 1, f"{lms.calls - before - 1} malformed requests left"
    raw.close()


def rejections_are_problems(bursar, lms):
    before = lms.calls
    application = Application(bursar)
    for path, fields, status, code in [
        ("/nowhere", (), 403, "route_denied"),
        ("/api/a/../b", (), 400, "path_ambiguous"),
        ("/api/x?_method=PUT", (), 403, "query_parameter_denied"),
        ("/api/x", (("host", "evil"),), 400, "host_invalid"),
        ("/api/x", (("x_y", "z"),), 400, "header_name_ambiguous"),
        ("/api/" + "a" * 9000, (), 414, "uri_too_long"),
        ("/api/x", tuple((f"x-{number}", "y") for number in range(101)), 431, "headers_too_large"),
    ]:
        stream = application.get(path, fields=fields)
        application.receive(lambda: stream in application.ended)
        assert (application.status[stream], application.code_of(stream)) == (status, code), application.body[stream]
    assert lms.calls == before
    application.close()


def whatever_the_path_what_is_allowed_is_what_the_lms_gets(bursar, lms):
    """P2. h2 cuts off what follows a `#`: nothing of it is seen or sent."""
    chance = random.Random(20)
    pieces = ["a", "Z", "0", "-", "~", "/", "/", "//", ".", "..", "/../", "%2e", "%2F", "%5c", "%00", "%25", "%zz", "%41",
              ";", "\\", "?", "&", "=", "+", "_method", "#", "\"", "<", "|", "{", "\u00e9", " ", "\t", "\r\n", "@", ":", "*", "nowhere"]
    raw, allowed = Raw(bursar), 0
    paths = ["/api/x#/../../nowhere", "/nowhere#/api/x", "/api/#", "#/api/x", "?/api/x", "*", "http://x/api/x"]
    for _ in range(3000):
        start = chance.choice(["/api/", "/api/", "/api/x", "/", ""])
        paths.append(start + "".join(chance.choices(pieces, k=chance.randrange(6))))
    for path in paths:
        before, lms.target = lms.calls, None
        data, stream = raw.request([(name, path if name == ":path" else value) for name, value in raw.head()])
        raw.send(data)
        status = None
        for kind, flags, on, payload in raw.frames():
            if on == stream and kind == HEADERS:
                status = dict(raw.decoder.decode(payload))[":status"]
            if kind == GOAWAY or on == stream and (kind == RST_STREAM or flags & END_STREAM):
                break
        if kind == GOAWAY:
            raw.close()
            raw = Raw(bursar)
        if status == "200":
            allowed += 1
            assert (lms.calls, lms.target) == (before + 1, path.split("#")[0]), (path, lms.target)
            assert lms.target.startswith("/api/"), path
        else:
            assert lms.calls == before, (path, status)
    print(f"      {allowed} of {len(paths)} paths were allowed")
    assert allowed > 300
    raw.close()


def bodies_that_nobody_wants_end_their_streams_at_most(bursar, lms):
    before = lms.calls
    application = Application(bursar)
    body = b"GET /api/smuggled HTTP/1.1\r\n\r\n"
    for _ in range(20):
        streams = [application.get("/nowhere", method="POST", ends=False) for _ in range(80)]
        for stream in streams:
            application.h2.send_data(stream, body, end_stream=True)
        application.flush()
        application.receive(lambda: application.ended >= set(streams))
        assert {application.status[stream] for stream in streams} == {403}
    assert not application.reset
    streams = [application.get("/nowhere", method="POST", ends=False) for _ in range(40)]
    for stream in streams:
        application.h2.send_data(stream, body)
    application.flush()
    application.receive(lambda: set(application.reset) >= set(streams))
    assert {application.status[stream] for stream in streams} == {403}
    assert set(application.reset.values()) == {h2.errors.ErrorCodes.NO_ERROR}
    assert application.status_of("/api/x") == 200
    assert lms.calls == before + 1
    application.close()


def rapid_reset(raw):
    for _ in range(1000):
        pieces = []
        for _ in range(100):
            data, stream = raw.request(raw.head())
            pieces += [data, frame(RST_STREAM, 0, stream, struct.pack(">I", 8))]
        yield b"".join(pieces)


def made_you_reset(raw):
    # A window that is too large makes bursar reset the stream.
    for _ in range(1000):
        pieces = []
        for _ in range(100):
            data, stream = raw.request(raw.head())
            pieces += [data, frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7FFFFFFF))]
        yield b"".join(pieces)


def made_you_reset_by_nothing(raw):
    # The form of CVE-2025-8671; a window update of 0 ends the connection at once.
    for _ in range(1000):
        data, stream = raw.request(raw.head())
        yield data + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))


def made_you_reset_by_malformed_heads(raw):
    for _ in range(1000):
        yield b"".join(raw.request([*raw.head(), ("connection", "close")])[0] for _ in range(100))


def endless_head(raw):
    data, stream = raw.request(raw.head(), flags=END_STREAM)
    yield data
    literal = b"\x00\x03x-y\x7f\x80\x7e" + b"z" * 16255
    while True:
        yield frame(CONTINUATION, 0, stream, literal)


def endless_empty_continuations(raw):
    data, stream = raw.request(raw.head(), flags=END_STREAM)
    yield data
    while True:
        yield frame(CONTINUATION, 0, stream) * 1000


def hpack_bomb(raw):
    # A value of 4,000 bytes enters the table, and is named again by one byte.
    entry = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000
    block = raw.encoder.encode(raw.head()) + entry + b"\xbe" * 12000
    for number in range(300):
        stream = 2 * number + 1
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, block if number == 0 else b"\xbe" * 16000)


def pings(_raw):
    for _ in range(500):
        yield frame(PING, 0, 0, b"12345678") * 1000


def settings(_raw):
    for _ in range(500):
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * 1000


def priorities(_raw):
    for _ in range(500):
        yield frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 9)) * 1000


def empty_data(raw):
    data, stream = raw.request(raw.head(method="POST"), flags=END_HEADERS)
    yield data
    for _ in range(500):
        yield frame(DATA, 0, stream) * 1000


def window_updates(raw):
    data, stream = raw.request(raw.head("/api/big"))
    yield data
    for _ in range(500):
        yield frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1000


# How long each goes on, one connection after the other: long enough that hundreds of others are measured.
FLOOD_SECONDS = 2.0

# Each with how bursar must end the connection. What costs it nothing, it may also bear.
CLOSED, BORNE = "closed", "borne"
FLOODS = [
    (rapid_reset, CALM),
    (made_you_reset, CALM),
    (made_you_reset_by_nothing, CLOSED),
    (made_you_reset_by_malformed_heads, CALM),
    (endless_head, CLOSED),
    (endless_empty_continuations, CLOSED),
    (hpack_bomb, BORNE),
    (pings, CALM),
    (settings, CALM),
    (priorities, CALM),
    (window_updates, CALM),
    (empty_data, CALM),
]


def floods_are_ended_and_nobody_else_is_troubled(bursar, _lms):
    others = Application(bursar)
    counted = 'bursar_policy_decisions_total{decision="deny",reason="framing",route="_unmatched",upstream="_none"}'
    latencies(others, lambda count: count < 200)
    before = bursar.memory()
    processes = multiprocessing.get_context("fork")

    def beside(neighbour, flood, seconds):
        """What the others measure meanwhile, and what the neighbour has to tell."""
        outcomes = processes.Queue()
        process = processes.Process(target=neighbour, args=(bursar, flood, seconds, outcomes), daemon=True)
        process.start()
        taken = latencies(others, lambda _: process.is_alive())
        told = []
        with contextlib.suppress(queue.Empty):
            while True:
                told.append(outcomes.get(timeout=0.1))
        return taken, told

    ratios = []
    for flood, end in FLOODS:
        alone = p99(latencies(others, lambda count: count < 300))
        calm = p99(beside(ask_again_and_again, flood, FLOOD_SECONDS / 2)[0])
        framing = bursar.metric(counted)
        taken, ends = beside(flood_again_and_again, flood, FLOOD_SECONDS)
        grown = (bursar.memory() - before) / 1e6
        reasons, slowest_end = {reason for reason, _ in ends}, max(seconds for _, seconds in ends)
        name, during = flood.__name__, p99(taken)
        ratios.append(during / calm)
        print(
            f"      {name}: {len(ends)} times, ended by {sorted(reasons, key=str)} after {slowest_end:.2f} s at most; +{grown:.1f} MB; "
            f"p99 of {len(taken)} others {during * 1e3:.1f} ms (beside an ordinary application {calm * 1e3:.1f} ms, alone "
            f"{alone * 1e3:.1f} ms), slowest {max(taken) * 1e3:.0f} ms"
        )
        assert grown < 50, f"{name}: {grown} MB"
        # A machine that others use takes that long now and then, without any flood.
        assert during < max(10 * calm, 0.1), f"{name}: {during} s, {calm} s before"
        if end == CALM:
            assert reasons == {CALM}, f"{name}: {reasons}"
        if end != BORNE:
            assert slowest_end < 4, f"{name} goes on"
            assert bursar.metric(counted) >= framing + len(ends), f"{name} is not counted"
    multiples = ", ".join(f"{ratio:.1f}" for ratio in sorted(ratios))
    print(f"      p99 during a flood, as multiples of that beside an ordinary application: {multiples}")
    # What is promised is less than twice (R20); a busy machine must not decide a test, so the bound is far beyond it.
    assert statistics.median(ratios) < 10, multiples
    others.close()


def a_head_that_never_ends_and_a_connection_without_requests_are_closed(bursar, _lms):
    head = Raw(bursar)
    data, stream = head.request(head.head(), flags=END_STREAM)
    head.send(data)
    idle = Application(bursar)
    assert idle.status_of("/api/x") == 200
    begun = time.monotonic()
    list(head.frames(TIMEOUT + 3))
    assert time.monotonic() - begun < TIMEOUT + 2.5
    idle.receive(lambda: idle.closed, TIMEOUT + 3)
    assert idle.goaway == 0
    assert stream == 1


def h2load_gets_nothing_but_200(bursar, _lms):
    program = shutil.which("h2load")
    if program is None:
        print("      left out: no h2load on the PATH")
        return
    url = f"http://127.0.0.1:{bursar.port}/api/x"
    run = subprocess.run([program, "-n", "20000", "-c", "10", "-m", "100", url], capture_output=True, text=True, timeout=80)
    print("      " + next(line for line in run.stdout.splitlines() if line.startswith("finished")))
    assert re.search(r"status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx", run.stdout), run.stdout
    assert re.search(r"20000 succeeded, 0 failed, 0 errored, 0 timeout", run.stdout), run.stdout


def every_request_has_left_its_record(bursar, _lms):
    wait_for("no request is in flight", lambda: bursar.metric('bursar_http_requests_in_flight{upstream="lms"}') == 0)


def streams_in_flight_finish_after_sigterm(bursar, lms):
    lms.arrived = 0
    applications = [Application(bursar) for _ in range(4)]
    streams = [[application.get("/api/held") for _ in range(20)] for application in applications]
    lms.await_arrivals(80)
    bursar.process.send_signal(signal.SIGTERM)
    # Past the moment that connections are given to hear of it from an answer.
    threading.Timer(1.2, lms.gate.set).start()
    for application, own in zip(applications, streams):
        application.receive(lambda: application.ended >= set(own))
        assert {application.status[stream] for stream in own} == {200}
        assert not application.reset
        application.receive(lambda: application.closed)
        assert application.goaway == 0
    assert bursar.process.wait(PATIENCE) == 0


TESTS = [
    a_hundred_requests_are_in_flight_at_once,
    an_answer_that_is_not_taken_is_cut_and_the_others_go_on,
    malformed_heads_are_errors_and_nothing_leaves,
    rejections_are_problems,
    whatever_the_path_what_is_allowed_is_what_the_lms_gets,
    bodies_that_nobody_wants_end_their_streams_at_most,
    a_head_that_never_ends_and_a_connection_without_requests_are_closed,
    floods_are_ended_and_nobody_else_is_troubled,
    h2load_gets_nothing_but_200,
    every_request_has_left_its_record,
    # The last: bursar ends with it.
    streams_in_flight_finish_after_sigterm,
]


def main():
    failed = 0
    lms = Lms()
    with tempfile.TemporaryDirectory() as directory:
        bursar = Bursar(lms, directory)
        try:
            for test in TESTS:
                begun = time.monotonic()
                try:
                    test(bursar, lms)
                    outcome = "ok"
                except Exception:
                    traceback.print_exc(file=sys.stdout)
                    outcome, failed = "FAILED", failed + 1
                print(f"{outcome:6} {test.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
            if failed:
                print(bursar.read_log())
        finally:
            bursar.end()
    print(f"{len(TESTS) - failed} of {len(TESTS)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
