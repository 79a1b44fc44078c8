"""A Google Cloud Storage of one process, so that tests can use `gs://` paths without a network.

It speaks as much of the JSON API as its three clients use: gcsfs (under etils.epath), TensorStore
(the arrays of an Orbax checkpoint) and google-cloud-storage (Orbax asks what kind of bucket it is).
Objects are kept in memory. Buckets are flat: a folder is no more than a prefix of names.

    with FakeGcs("bucket") as fake:
        os.environ.update(fake.environment)  # before the first use of gs:// in the process
        epath.Path("gs://bucket/a.txt").write_text("hello")
        fake.buckets["bucket"]["a.txt"].data  # b"hello"

Not here: access rights (but see `denied`), versions, compose, batch requests, and the gRPC API.
"""

import base64
import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

_BUCKET = r"/storage/v1/b/([^/]+)"
_OBJECT = _BUCKET + r"/o/([^/]+)"


@dataclasses.dataclass(frozen=True)
class Blob:
    data: bytes
    generation: int
    updated: str  # RFC 3339


class ApiError(Exception):
    """An error response: HTTP status, message."""


class FakeGcs:
    """The server, as a context manager.

    Attributes:
      buckets: name of bucket -> name of object -> Blob. Tests may look at it and change it.
      denied: name of bucket -> status that answers each request there: 403 (the account may not),
        401 (anonymous, or expired).
      requests: "METHOD /path?query" of each request so far.
      url: where it listens, on 127.0.0.1.
    """

    def __init__(self, *buckets: str):
        self.buckets: dict[str, dict[str, Blob]] = {name: {} for name in buckets}
        self.denied: dict[str, int] = {}
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self._generations = itertools.count(1)
        self._uploads: dict[str, bytes] = {}  # resumable uploads under way
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeGcs":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the clients here, without credentials or a search for them."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs, google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "FSSPEC_GCS": '{"token": "anon"}',  # read when fsspec is imported
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # would ask for the bucket's kind by gRPC
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "fake",  # TensorStore
            "EPATH_USE_TF": "false",  # epath takes TensorFlow for gs:// where it is installed
            "NO_GCE_CHECK": "true",
            "GCE_METADATA_HOST": "127.0.0.1:1",  # refuses at once, should anyone still ask
            "GCE_METADATA_ROOT": "127.0.0.1:1",
        }

    def get_bucket(self, bucket: str) -> dict:
        self._objects(bucket)
        return {"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US"}

    def list_objects(self, bucket: str, query: dict) -> dict:
        """Objects in the order of their names; those past a delimiter are folded into prefixes."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        start, end = query.get("startOffset", ""), query.get("endOffset")
        entries: dict[str, dict | None] = {}  # None: a prefix
        for name, blob in sorted(self._objects(bucket).items()):
            if not name.startswith(prefix) or name < start or (end and name >= end):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entries[prefix + head + found if found else name] = (
                None if found else _metadata(bucket, name, blob)
            )
        names = [name for name in entries if name > query.get("pageToken", "")]
        size = int(query.get("maxResults", 1000))
        page = {name: entries[name] for name in names[:size]}
        return {
            "kind": "storage#objects",
            "items": [item for item in page.values() if item],
            "prefixes": [name for name, item in page.items() if not item],
            **({"nextPageToken": names[size - 1]} if len(names) > size else {}),
        }

    def get_object(self, bucket: str, name: str, query: dict) -> dict | Blob:
        blob = self._existing(bucket, name)
        _check_preconditions(blob, query, reading=True)
        return blob if query.get("alt") == "media" else _metadata(bucket, name, blob)

    def delete_object(self, bucket: str, name: str, query: dict) -> None:
        _check_preconditions(self._existing(bucket, name), query)
        del self.buckets[bucket][name]

    def copy_object(self, bucket: str, name: str, target: str, to: str, query: dict) -> dict:
        copied = self.insert(target, to, self._existing(bucket, name).data, query)
        return {"kind": "storage#rewriteResponse", "done": True, "resource": copied}

    def move_object(self, bucket: str, name: str, to: str, query: dict) -> dict:
        moved = self.insert(bucket, to, self._existing(bucket, name).data, query)
        del self.buckets[bucket][name]
        return moved

    def insert(self, bucket: str, name: str, data: bytes, query: dict) -> dict:
        objects = self._objects(bucket)
        _check_preconditions(objects.get(name), query)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        objects[name] = Blob(data, next(self._generations), now)
        return _metadata(bucket, name, objects[name])

    def start_upload(self, bucket: str, query: dict, body: bytes) -> str:
        """The URL of a new resumable upload: send the chunks there."""
        self._objects(bucket)
        key = str(len(self._uploads))
        self._uploads[key] = b""
        name = quote(query.get("name") or json.loads(body)["name"], safe="")
        rest = "".join(f"&{k}={v}" for k, v in query.items() if k.startswith("if"))
        return f"{self.url}/upload/storage/v1/b/{bucket}/o?upload_id={key}&name={name}{rest}"

    def add_chunk(self, bucket: str, query: dict, body: bytes, content_range: str) -> dict | int:
        """The finished object, or the number of bytes so far."""
        key = query["upload_id"]
        self._uploads[key] += body
        if content_range.endswith("/*"):
            return len(self._uploads[key])
        return self.insert(bucket, query["name"], self._uploads[key], query)

    def _objects(self, bucket: str) -> dict[str, Blob]:
        if bucket in self.denied:
            raise ApiError(self.denied[bucket], f"Caller does not have access to bucket {bucket}.")
        if bucket not in self.buckets:
            raise ApiError(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def _existing(self, bucket: str, name: str) -> Blob:
        objects = self._objects(bucket)
        if name not in objects:
            raise ApiError(404, f"No such object: {bucket}/{name}")
        return objects[name]


def _metadata(bucket: str, name: str, blob: Blob) -> dict:
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{blob.generation}",
        "name": name,
        "bucket": bucket,
        "generation": str(blob.generation),
        "metageneration": "1",
        "size": str(len(blob.data)),
        "md5Hash": base64.b64encode(hashlib.md5(blob.data).digest()).decode(),
        "timeCreated": blob.updated,
        "updated": blob.updated,
    }


def _check_preconditions(blob: Blob | None, query: dict, reading: bool = False) -> None:
    """Of generations; 0 stands for an object that isn't there."""
    generation = blob.generation if blob else 0
    if int(query.get("ifGenerationMatch", generation)) != generation:
        raise ApiError(412, "conditionNotMet")
    if int(query.get("ifGenerationNotMatch", -1)) == generation:
        raise ApiError(304 if reading else 412, "conditionNotMet")


def _part_content(part: bytes) -> bytes:
    """Of a part of a multipart body: without its headers, and the line break before the boundary.

    gcsfs breaks lines with \\n, google-cloud-storage with \\r\\n.
    """
    newline = b"\r\n" if part.startswith(b"\r\n") else b"\n"
    return part.partition(newline + newline)[2].removesuffix(newline)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # TensorStore opens many connections at once


class _Handler(BaseHTTPRequestHandler):
    """From HTTP to the calls of FakeGcs, and back."""

    fake: FakeGcs
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # gcsfs asks for an object and for a folder at once, and hangs up on the later answer.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            with self.fake.lock:
                self.fake.requests.append(f"{self.command} {self.path}")
                answer = self._call(body)
        except ApiError as error:
            status, message = error.args
            if status == 304:  # has no body, or the client takes it for the next answer
                self._send(status, b"")
            else:
                self._send_json(status, {"error": {"code": status, "message": message}})
            return
        if answer is None:
            self._send(204, b"")
        elif isinstance(answer, Blob):
            self._send_media(answer)
        elif isinstance(answer, str):
            self._send(200, b"", {"Location": answer})
        elif isinstance(answer, int):
            self._send(308, b"", {"Range": f"bytes=0-{answer - 1}"} if answer else {})
        else:
            self._send_json(200, answer)

    def _call(self, body: bytes) -> dict | Blob | str | int | None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}

        def match(methods: str, pattern: str) -> list[str] | None:
            found = re.fullmatch(pattern, parts.path)
            if found and self.command in methods.split():
                return [unquote(part) for part in found.groups()]
            return None

        if args := match("GET", _BUCKET):
            return self.fake.get_bucket(*args)
        if args := match("GET", _BUCKET + "/o"):
            return self.fake.list_objects(*args, query)
        if args := match("GET", "(?:/download)?" + _OBJECT):
            return self.fake.get_object(*args, query)
        if args := match("DELETE", _OBJECT):
            return self.fake.delete_object(*args, query)
        if args := match("POST", _OBJECT + "/rewriteTo/b/([^/]+)/o/([^/]+)"):
            return self.fake.copy_object(*args, query)
        if args := match("POST", _OBJECT + "/moveTo/o/([^/]+)"):
            return self.fake.move_object(*args, query)
        if args := match("POST PUT", "/upload" + _BUCKET + "/o"):
            (bucket,) = args
            if "upload_id" in query:
                return self.fake.add_chunk(bucket, query, body, self.headers["Content-Range"])
            if query["uploadType"] == "resumable":
                return self.fake.start_upload(bucket, query, body)
            if query["uploadType"] == "media":
                return self.fake.insert(bucket, query["name"], body, query)
            name, data = self._multipart(body)
            return self.fake.insert(bucket, name, data, query)
        raise ApiError(405, f"the fake has no {self.command} {self.path}")

    def _multipart(self, body: bytes) -> tuple[str, bytes]:
        """(name, data) of an upload whose first part is the object's JSON, the second its data."""
        boundary = b"--" + self.headers.get_boundary().encode()
        _, metadata, rest = body.split(boundary, 2)
        data, _, _ = rest.rpartition(boundary)
        return json.loads(_part_content(metadata))["name"], _part_content(data)

    def _send_media(self, blob: Blob) -> None:
        headers = {"x-goog-generation": str(blob.generation),
                   "x-goog-stored-content-length": str(len(blob.data)),
                   "Content-Type": "application/octet-stream"}  # fmt: skip
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            self._send(200, blob.data, headers)
            return
        size, first, last = len(blob.data), *wanted.groups()
        start = int(first) if first else size - min(int(last), size)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= size:
            self._send(416, b"", headers | {"Content-Range": f"bytes */{size}"})
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send(206, blob.data[start:stop], headers)

    def _send_json(self, status: int, value: dict) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
