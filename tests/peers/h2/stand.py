"""What stands around the LMS: certificates, an authorization server, bursar, and applications."""

import collections
import concurrent.futures
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.request

Answer = collections.namedtuple("Answer", "status code body")

# Longer than anything here takes.
PATIENCE = 20


def certificates(directory):
    """A CA and a certificate for localhost, by openssl: the paths of the CA, the certificate and its key."""
    ca, ca_key, cert, key, request = (directory / name for name in ("ca.pem", "ca.key", "lms.pem", "lms.key", "lms.csr"))
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", 2, "-subj", "/CN=test")
    openssl("req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", cert, "-days", 2, "-extfile", extensions)
    return ca, cert, key


class AuthorizationServer(http.server.BaseHTTPRequestHandler):
    """Gives everybody the same token."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "canary-token", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    @classmethod
    def start(cls):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port


CONFIG = """
[server]
listen = "127.0.0.1:0"
workers = 1
drain_timeout = "1s"

[admin]
listen = "127.0.0.1:0"
control = "127.0.0.1:0"

[log]
format = "json"

[credentials.app]
grant = "client_credentials"
auth_method = "client_secret_basic"
client_id = "app"
client_secret = "secret"
token_url = "http://127.0.0.1:{token_port}/token"

[upstreams.lms]
base_url = "https://localhost:{lms_port}"
credential = "app"
scopes = ["api"]
ca_file = "{ca}"
ca_only = true
{settings}

[[upstreams.lms.routes]]
name = "api"
methods = ["GET", "POST", "PUT"]
path = "/api/{{*rest}}"
scopes = ["api"]
"""


class Bursar:
    """The program, between its peers."""

    def __init__(self, lms_port, ca, token_port, settings=""):
        self.directory = tempfile.TemporaryDirectory()
        config = pathlib.Path(self.directory.name) / "bursar.toml"
        config.write_text(CONFIG.format(lms_port=lms_port, ca=ca, token_port=token_port, settings=settings))
        config.chmod(0o600)
        self.log = open(pathlib.Path(self.directory.name) / "log", "w+")
        self.process = subprocess.Popen(
            [os.environ["BURSAR_BIN"], "run", "--config", str(config)], stdout=self.log, stderr=self.log
        )
        self.proxy, self.admin = self._addresses()

    def _addresses(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.lines():
                if line.get("event") == "started":
                    self._until_ready(line["admin"])
                    return line["listen"], line["admin"]
            time.sleep(0.02)
        raise AssertionError(f"bursar does not start:\n{self.text()}")

    def _until_ready(self, admin):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{admin}/readyz"):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"bursar is never ready:\n{self.text()}")

    def text(self):
        self.log.flush()
        with open(self.log.name) as log:
            return log.read()

    def lines(self):
        for line in self.text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                # A line that is being written.
                continue

    def metric(self, series):
        with urllib.request.urlopen(f"http://{self.admin}/metrics") as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def send(self, method, path, body=None):
        """One request on a connection of its own. `incomplete`: the connection ended before the answer did."""
        connection = http.client.HTTPConnection(self.proxy, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body)
            response = connection.getresponse()
            content = response.read()
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            return Answer(None, "incomplete", None)
        finally:
            connection.close()
        code = ""
        if response.headers["Content-Type"] == "application/problem+json":
            code = json.loads(content)["code"]
        return Answer(response.status, code, content.decode())

    def give_up(self, path, is_there):
        """A request whose application breaks its connection off as soon as the LMS has it."""
        connection = http.client.HTTPConnection(self.proxy, timeout=PATIENCE)
        connection.request("GET", path)
        wait_until(is_there)
        # A reset: who merely says no more may well wait for the answer.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.directory.cleanup()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def at_once(count, work):
    """Does `work(number)` for each number at the same time."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))
