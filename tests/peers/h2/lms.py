"""An LMS that speaks HTTP/2 over TLS by the Python library h2, and misbehaves on purpose.

A scenario is a subclass of Lms that says what happens with each request. What the LMS has done is in `processed`
(the id in the body or in the query of each request that it carried out), and a scenario's assertions go by that.
"""

import asyncio
import collections
import ssl
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import hpack
import hyperframe.frame


class Request:
    """A whole request."""

    def __init__(self, stream, headers):
        self.stream = stream
        self.headers = {field[0]: field[1] for field in headers}
        self.never_indexed = {field[0] for field in headers if isinstance(field, hpack.NeverIndexedHeaderTuple)}
        self.body = b""

    @property
    def path(self):
        return self.headers[":path"]

    @property
    def id(self):
        """What the application calls it: the body, or what stands behind `id=`."""
        return self.body.decode() or self.path.partition("id=")[2]


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, lms):
        self.lms = lms
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.open = {}
        self.resets = []
        self.most_streams = 0
        # Streams above this one are not looked at any more.
        self.last_stream = None

    def connection_made(self, transport):
        self.transport = transport
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.lms.connections.append(self)
        self.h2.initiate_connection()
        if self.lms.settings:
            # In a frame of their own: the library holds a client to the first one before it can know of it.
            self.h2.update_settings(self.lms.settings)
        self.flush()

    def data_received(self, data):
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.lms.violations.append(repr(error))
            self.flush()
            self.transport.close()
            return
        for event in events:
            self.handle(event)
        self.flush()

    def handle(self, event):
        if isinstance(event, h2.events.RequestReceived):
            if self.last_stream is not None and event.stream_id > self.last_stream:
                return
            self.open[event.stream_id] = Request(event.stream_id, event.headers)
            self.most_streams = max(self.most_streams, len(self.open))
            self.lms.begun(self, self.open[event.stream_id])
        elif isinstance(event, h2.events.DataReceived):
            request = self.open.get(event.stream_id)
            if request is not None:
                request.body += event.data
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            request = self.open.get(event.stream_id)
            if request is not None:
                self.lms.seen.append(request)
                self.lms.request(self, request)
        elif isinstance(event, h2.events.StreamReset):
            self.open.pop(event.stream_id, None)
            self.resets.append(event.error_code)

    def flush(self):
        self.transport.write(self.h2.data_to_send())

    def process(self, request):
        """Carries the request out."""
        self.lms.processed[request.id] += 1

    def answer(self, request):
        """Says so."""
        self.open.pop(request.stream, None)
        body = request.id.encode()
        self.h2.send_headers(request.stream, [(":status", "200"), ("content-length", str(len(body)))])
        self.h2.send_data(request.stream, body, end_stream=True)
        self.flush()

    def reset(self, request, code):
        self.open.pop(request.stream, None)
        self.h2.reset_stream(request.stream, code)
        self.flush()

    def go_away(self, last):
        """No stream above `last` has been processed or will be. Those below go on."""
        self.last_stream = last
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=last)
        self.flush()
        self.transport.write(frame.serialize())
        for stream in [stream for stream in self.open if stream > last]:
            del self.open[stream]

    def close_when_done(self):
        if not self.open:
            self.transport.close()


class Lms:
    """The server. Runs in a thread of its own until the program ends."""

    settings = {}

    def __init__(self, certificate, key):
        self.connections = []
        self.seen = []
        self.processed = collections.Counter()
        self.violations = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(["h2"])
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        listening = self.loop.create_server(lambda: Connection(self), "127.0.0.1", 0, ssl=self.context)
        self.port = self.loop.run_until_complete(listening).sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def begun(self, connection, request):
        """The head of a request is here."""

    def request(self, connection, request):
        """A whole request is here."""
        connection.process(request)
        connection.answer(request)

    def later(self, seconds, what, *arguments):
        self.loop.call_later(seconds, what, *arguments)
