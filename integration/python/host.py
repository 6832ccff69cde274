#!/usr/bin/python3
"""A host of docker-fetcher that is not Go: host.py PLUGIN URI DIR [CONFIG]

It launches the plugin and provisions one image as a Mesos agent does: a call
for the manifest, then one for each blob, all at once, into one directory. It
needs Debian's python3-grpcio. docs/hosts.md says what each step is for.
"""

import concurrent.futures
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

import grpc

import rpc_pb2
from dockerfetcher.v1 import fetcher_pb2 as pb, fetcher_pb2_grpc

COOKIE = ("DOCKER_FETCHER_PLUGIN", "6a2f0c4be1d94d7f8f53a1c97e20b5d8")
PASSED = ("PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
SERVING = b"\x08\x01"  # of grpc.health.v1.HealthCheckResponse


class PluginGone(Exception):
    """The process did not live to answer: launch another, repeat the call."""


class FetchError(Exception):
    """What the plugin said: a gRPC code, a reason, a text for people."""

    def __init__(self, code, reason, text, retry_after):
        super().__init__(f"{code.name} {reason}: {text}")
        self.code, self.reason, self.retry_after = code, reason, retry_after


@contextlib.contextmanager
def errors():
    """Turns a gRPC error into one of the two above."""
    try:
        yield
    except grpc.RpcError as e:
        status, info, retry = rpc_pb2.Status(), rpc_pb2.ErrorInfo(), rpc_pb2.RetryInfo()
        status.ParseFromString(dict(e.trailing_metadata() or ()).get("grpc-status-details-bin", b""))
        for detail in status.details:
            detail.Unpack(info) or detail.Unpack(retry)
        if e.code() == grpc.StatusCode.UNAVAILABLE and not info.reason:
            raise PluginGone(e.details()) from None
        raise FetchError(e.code(), info.reason, e.details(), retry.retry_delay.ToTimedelta()) from None


class Plugin:
    """A running plugin. Its calls may be made from many threads at once."""

    def __init__(self, path, *arguments):
        # Not in /tmp, where cleaners remove sockets. mkdtemp makes it 0700: it is
        # what keeps other users away, since there is no TLS.
        runtime = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.access("/run", os.W_OK) else None)
        self.dir = tempfile.mkdtemp(prefix="docker-fetcher-", dir=runtime)
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment.update([COOKIE], PLUGIN_PROTOCOL_VERSIONS="1", PLUGIN_UNIX_SOCKET_DIR=self.dir)
        self.process = self.channel = None
        try:
            self.process = subprocess.Popen([path, *arguments], env=environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.channel = grpc.insecure_channel("unix:" + self.handshake(), options=[
                ("grpc.default_authority", "localhost"), ("grpc.enable_http_proxy", 0)])
            health = self.channel.unary_unary("/grpc.health.v1.Health/Check")
            if health(b"\x0a\x06plugin", timeout=10) != SERVING:  # HealthCheckRequest{service: "plugin"}
                raise RuntimeError("the plugin does not serve")
            self.service = fetcher_pb2_grpc.FetcherServiceStub(self.channel)
        except BaseException:
            self.close()
            raise

    def handshake(self):
        """Returns the path of the socket, and reads both pipes to their ends."""
        def drain(pipe, sink):
            for line in pipe:
                sink(line)

        def log(line):  # a JSON object
            print(line.decode(errors="replace"), end="", file=sys.stderr, flush=True)

        threading.Thread(target=drain, args=(self.process.stderr, log), daemon=True).start()
        if not select.select([self.process.stdout], [], [], 10)[0]:
            raise RuntimeError("no handshake within 10 s")
        line = self.process.stdout.readline().decode().rstrip("\n")
        threading.Thread(target=drain, args=(self.process.stdout, bytes), daemon=True).start()
        fields = line.split("|")
        if len(fields) < 5 or fields[:3] != ["1", "1", "unix"] or fields[4] != "grpc":
            raise RuntimeError(f"no handshake, but {line!r}")
        return fields[3]

    def close(self):
        """Ends the plugin: it has 2 s to clean up."""
        if self.channel:
            with contextlib.suppress(grpc.RpcError):  # it often ends before it answers
                self.channel.unary_unary("/plugin.GRPCController/Shutdown")(b"", timeout=2)
            self.channel.close()
        if self.process:
            try:
                self.process.wait(2 if self.channel else 0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def request(uri, scheme, reference, directory, config):
    message = pb.FetchRequest(
        uri=pb.Uri(scheme=scheme, host=uri.hostname, port=uri.port, path=uri.path.strip("/"), query=reference),
        directory=os.path.abspath(directory))  # of the plugin's file system, not of its working directory
    if uri.fragment:
        message.uri.fragment = uri.fragment
    if config is not None:
        message.config.json = config
    return message


def provision(plugin, uri, directory, config):
    with errors():
        for event in plugin.service.Fetch(request(uri, "docker-manifest", uri.query, directory, config)):
            if event.WhichOneof("event") == "file_done":
                print("fetched", event.file_done.file.path, flush=True)
            elif event.WhichOneof("event") == "result":
                print("manifest", event.result.manifest.digest, flush=True)

    with open(os.path.join(directory, "manifest"), "rb") as f:
        manifest = json.load(f)
    blobs = {descriptor["digest"] for descriptor in (manifest["config"], *manifest["layers"])}

    def fetch(blob):
        with errors():
            fetch = request(uri, "docker-blob", blob, directory, config)
            result = plugin.service.FetchSync(pb.FetchSyncRequest(fetch=fetch), timeout=1800).result
        print("fetched", result.files[0].path, result.files[0].descriptor.size, "bytes", flush=True)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        list(threads.map(fetch, blobs))


def main(path, uri, directory, config=None):
    if config is not None:
        with open(config, "rb") as f:
            config = f.read()  # an agent has it from its secret resolver
    with contextlib.closing(Plugin(path)) as plugin:
        with errors():
            info = plugin.service.GetInfo(pb.GetInfoRequest(host_name="host.py"))
        print("plugin", info.name, "protocol", info.protocol_version, *info.schemes, flush=True)
        provision(plugin, urllib.parse.urlsplit(uri), directory, config)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (FetchError, PluginGone, OSError, RuntimeError, ValueError) as e:
        sys.exit(f"{type(e).__name__}: {e}")
