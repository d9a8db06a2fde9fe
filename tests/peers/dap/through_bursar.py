"""The official client through bursar: it holds no credential, and what it downloads comes past bursar from another origin."""

import asyncio
import gzip
import json
import sys
import tempfile
import urllib.request

import aiohttp
from dap.api import DAPSession
from dap.dap_types import Credentials, Format, SnapshotQuery

base_url, control = sys.argv[1:]


class Session(DAPSession):
    async def authenticate(self) -> None:
        """bursar does."""


def order(path: str, body: object = None) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    urllib.request.urlopen(urllib.request.Request(f"{control}/{path}", data=data, method="POST"))


def seen(what: str):
    return json.load(urllib.request.urlopen(f"{control}/{what}"))


async def main() -> None:
    order("reset")
    credentials = Credentials.create(client_id="not", client_secret="needed")
    session = Session(aiohttp.ClientSession(), base_url, credentials)
    try:
        assert "users" in await session.get_tables("canvas")
        order("tokens/revoke")
        order("faults", {"on": "api", "fault": "throttle", "retry_after": 1, "times": 1, "path": "/dap/job/"})
        directory = tempfile.mkdtemp()
        query = SnapshotQuery(format=Format.JSONL, mode=None)
        result = await session.download_table_data("canvas", "users", query, directory)
    finally:
        await session.close()
    (file,) = result.downloaded_files
    with gzip.open(file, "rt") as lines:
        names = [json.loads(line)["value"]["name"] for line in lines]
    assert names == [f"users number {number}" for number in (1, 2, 3)], names

    counters = seen("counters")
    assert counters["violations"] == 0 and counters["object_requests"] == 1, counters
    assert counters["tokens_issued"] == 1, counters
    assert counters["api_calls"]["401"] == 1 and counters["api_calls"]["429"] == 1, counters
    (download,) = [request for request in seen("requests") if request["on"] == "object"]
    assert "authorization" not in download["fields"], download
    print("all rows are there; one 401 healed by one token request; no credential at the objects' origin")


asyncio.run(main())
