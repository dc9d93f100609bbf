"""Drives a proxy that sends traces, metrics and records to a collector, and looks at what comes out of the collector.

    prove.py SLUICEGATE

The collector is Rotel. It takes OTLP over gRPC and over HTTP, makes of it what a collector makes, and exports it to this
program, where OpenTelemetry's own package decodes it. What happened is known from elsewhere: records from the proxy's own
file, and from the replicas the `traceparent` that each attempt came with. Exits non-zero when the two differ.
"""

import http.client
import http.server
import json
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent import futures

import grpc
import opentelemetry.semconv
import rotel
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

REQUESTS, CLIENTS, PATIENCE = 400, 4, 30
# Who connects from here is a proxy whose traces are followed; who connects from elsewhere is not.
TRUSTED, STRANGER = "127.0.0.2", "127.0.0.3"
STATE = "vendor=x1,other=y2"


def semantic_names():
    """Every name of an attribute in OpenTelemetry's conventions that they have not given up."""
    listed = re.compile(r'^[A-Z0-9_]+: Final = "([^"]+)"(?:\n"""\n(Deprecated:))?', re.MULTILINE)
    home = pathlib.Path(opentelemetry.semconv.__path__[0])
    found = [match for file in home.glob("**/*_attributes.py") for match in listed.findall(file.read_text())]
    return {name for name, _ in found} - {name for name, given_up in found if given_up}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, true):
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.05)


class Far:
    """The far end: what the collector exports to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.spans, self.records, self.pushes, self.resources = (defaultdict(list) for _ in range(4))
        server = grpc.server(futures.ThreadPoolExecutor(4))
        for add, name, answer, sort in (
            (trace_service_pb2_grpc.add_TraceServiceServicer_to_server, "TraceService",
             trace_service_pb2.ExportTraceServiceResponse, self.traces),
            (metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server, "MetricsService",
             metrics_service_pb2.ExportMetricsServiceResponse, self.metrics),
            (logs_service_pb2_grpc.add_LogsServiceServicer_to_server, "LogsService",
             logs_service_pb2.ExportLogsServiceResponse, self.logs),
        ):
            add(type(name, (), {"Export": staticmethod(self.taking(answer, sort))}), server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.server = server

    def taking(self, answer, sort):
        def export(request, _):
            with self.lock:
                sort(request)
            return answer()
        return export

    def way(self, signal_name, resource):
        """Which proxy it is from, by the attribute that its configuration adds."""
        attributes = told(resource.attributes)
        self.resources[attributes["test.way"]].append((signal_name, attributes))
        return attributes["test.way"]

    def traces(self, request):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans[self.way("traces", resource.resource)].extend(scope.spans)

    def metrics(self, request):
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.pushes[self.way("metrics", resource.resource)].append(list(scope.metrics))

    def logs(self, request):
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                self.records[self.way("logs", resource.resource)].extend(scope.log_records)


def told(attributes):
    """Attributes as a dictionary; none may come twice."""
    result = {}
    for pair in attributes:
        assert pair.key not in result, f"{pair.key} comes twice"
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        result[pair.key] = [each.string_value for each in value.values] if kind == "array_value" else value
    return result


class Replica(http.server.ThreadingHTTPServer):
    """Answers as its name says, and notes how each request was introduced."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, sick):
        self.seen = []
        replica = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def do_GET(self):
                path = self.path.split("?")[0]
                status = 503 if sick and path == "/flaky" else 404 if path == "/missing" else 200
                replica.seen.append((self.headers["traceparent"], self.headers["tracestate"], path, status))
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_POST = do_GET

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """The proxy closes connections that it does not need any more, and that is well."""


class Collector:
    """Rotel, between the proxy and the far end."""

    def __init__(self, far, place):
        self.ports = {"grpc": free_port(), "http": free_port()}
        binary = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        self.process = subprocess.Popen(
            [binary, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{self.ports['grpc']}",
             "--otlp-http-endpoint", f"127.0.0.1:{self.ports['http']}", "--exporter", "otlp",
             "--otlp-exporter-endpoint", f"http://127.0.0.1:{far.port}", "--otlp-exporter-protocol", "grpc"],
            stdout=open(place / "collector", "wb"), stderr=subprocess.STDOUT)
        for port in self.ports.values():
            until("the collector", lambda: opens(port))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


def opens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


CONFIG = """
[process]
workers = 2
log_json = true

[admin]
address = "127.0.0.1:{admin}"

[clients]
trusted_proxies = ["{trusted}/32"]

[[listeners]]
name = "plain"
address = "127.0.0.1:{listen}"

[pools.superset]
endpoints = ["127.0.0.1:{well}", "127.0.0.1:{sick}", "127.0.0.1:{dead}"]
health = false
# Nobody is taken out, so that there is something to repeat all the time.
outliers = {{ max_ejected = 0, connect_failures = 0, gateway_errors = 0, error_points = 0 }}

[pools.superset.retry]
budget_percent = 50

[[routes]]
pool = "superset"

# Its replicas do not know the prefix under which clients have it.
[pools.behind]
endpoints = ["127.0.0.1:{well}"]
health = false

[[routes]]
path = "/behind"
strip_prefix = "/behind"
pool = "behind"

[access_log]
path = "{place}/records"

[[access_log.sinks]]
name = "collector"
otlp = {{ protocol = "{way}", to = {{ url = "{url}", gzip = true }}, resource = {{ "test.way" = "{way}" }} }}

[otlp.traces]
protocol = "{way}"
sample = "40%"
to = {{ url = "{url}", gzip = true }}
resource = {{ "test.way" = "{way}" }}

[otlp.metrics]
protocol = "{way}"
interval = "1s"
to = {{ url = "{url}", patience = "1s" }}
resource = {{ "test.way" = "{way}" }}
"""


class Proxy:
    """One that sends everything to the collector by `way`."""

    def __init__(self, binary, way, collector, place):
        self.way, self.place = way, place / way
        self.place.mkdir()
        self.well, self.sick = Replica(False), Replica(True)
        self.dead, self.listen, self.admin = free_port(), free_port(), free_port()
        text = CONFIG.format(way=way, url=f"http://127.0.0.1:{collector.ports[way]}", place=self.place, trusted=TRUSTED,
                             well=self.well.port, sick=self.sick.port, dead=self.dead, listen=self.listen, admin=self.admin)
        (self.place / "sluicegate.toml").write_text(text)
        command = [binary, "run", "--config", str(self.place / "sluicegate.toml")]
        self.process = subprocess.Popen(command, stderr=open(self.place / "events", "wb"))
        until("the proxy", lambda: opens(self.listen))
        # What each request said of a trace, by its number.
        self.asked = {}

    def drive(self):
        with futures.ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(self.client, range(CLIENTS)))

    def client(self, number):
        dice = random.Random(number)
        links = {}
        for request in range(number, REQUESTS, CLIENTS):
            said = ("begun", "followed", "unsampled", "stranger")[(request // CLIENTS) % 4]
            source = STRANGER if said == "stranger" else TRUSTED
            link = links.setdefault(source, http.client.HTTPConnection(
                "127.0.0.1", self.listen, timeout=PATIENCE, source_address=(source, 0)))
            fields = {"User-Agent": "prove/1", "Cookie": "session=SECRET-session", "Authorization": "Bearer SECRET-bearer"}
            trace, parent = f"{dice.getrandbits(128) | 1:032x}", f"{dice.getrandbits(64) | 1:016x}"
            if said != "begun":
                fields["traceparent"] = f"00-{trace}-{parent}-{'00' if said == 'unsampled' else '01'}"
                fields["tracestate"] = STATE
            path = dice.choice(["/chart", "/flaky", "/missing", "/behind/chart"])
            self.asked[str(request)] = (said, trace, parent)
            method = "GET" if path != "/chart" else dice.choice(["GET", "POST"])
            link.request(method, f"{path}?number={request}&token=SECRET-token", b"x" if method == "POST" else None, fields)
            link.getresponse().read()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def records(self):
        return [json.loads(line) for line in (self.place / "records").read_text().splitlines()]


class Judge:
    """Compares what happened with what came out of the collector."""

    def __init__(self, proxy, far, names):
        self.proxy, self.way, self.names = proxy, proxy.way, names
        self.truth = proxy.records()
        self.spans, self.records, self.pushes = far.spans[self.way], far.records[self.way], far.pushes[self.way]
        self.resources = far.resources[self.way]
        self.servers = {span.span_id.hex(): span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER}
        self.clients = {span.span_id.hex(): span for span in self.spans if span.kind == Span.SPAN_KIND_CLIENT}
        self.children = defaultdict(list)
        for span in self.clients.values():
            self.children[span.parent_span_id.hex()].append(span)
        self.sampled = {}
        for record in self.truth:
            _, trace, span, flags = record["traceparent"].split("-")
            if int(flags, 16) & 1:
                self.sampled[span] = (trace, record)

    def all(self):
        assert len(self.truth) == REQUESTS, len(self.truth)
        assert len(self.spans) == len(self.servers) + len(self.clients), "a span is there twice, or of another kind"
        self.every_sampled_exchange_is_a_span()
        self.replicas_were_told_of_the_spans_that_are_there()
        self.traces_of_trusted_proxies_go_on()
        self.names_are_the_conventions()
        self.errors_are_errors_of_whom_they_are()
        self.metrics_are_there()
        self.records_are_there()
        self.nothing_is_secret()
        begun = sum(said == "begun" for said, *_ in map(self.said_by, self.sampled.values()))
        repeats = sum(len(spans) > 1 for spans in self.children.values())
        print(f"{self.way}: {len(self.truth)} exchanges, {len(self.sampled)} of them sampled ({begun} of the "
              f"{REQUESTS // 4} that began here), {len(self.clients)} attempts, {repeats} exchanges with more than one; "
              f"{len(self.pushes)} pushes of metrics, {len(self.records)} records", flush=True)

    def said_by(self, sampled):
        return self.proxy.asked[number(sampled[1]["path"])]

    def every_sampled_exchange_is_a_span(self):
        there = {(span.trace_id.hex(), key) for key, span in self.servers.items()}
        expected = {(trace, key) for key, (trace, _) in self.sampled.items()}
        assert there == expected, f"missing {expected - there}, too many {there - expected}"
        assert set(self.children) <= set(self.servers), "an attempt of no exchange"
        for key, (trace, record) in self.sampled.items():
            span, attempts = self.servers[key], self.children[key]
            assert all(each.trace_id.hex() == trace for each in attempts)
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            for each in attempts:
                assert span.start_time_unix_nano <= each.start_time_unix_nano <= each.end_time_unix_nano \
                    <= span.end_time_unix_nano, "an attempt outside of its exchange"
            assert told(span.attributes)["sluicegate.request_id"] == record["request_id"]
            # Those that came to nothing stand in the record; behind them is the one that was answered.
            failed = [each["endpoint"] for each in record.get("attempts", [])]
            asked = [told(each.attributes)["sluicegate.endpoint"] for each in sorted(attempts, key=resends)]
            assert asked[:len(failed)] == failed and len(asked) - len(failed) in (0, 1), (asked, record)

    def replicas_were_told_of_the_spans_that_are_there(self):
        for replica in (self.proxy.well, self.proxy.sick):
            for parent, _, path, status in replica.seen:
                _, trace, span, flags = parent.split("-")
                if flags == "00":
                    assert span not in self.clients, f"{parent} is exported"
                    continue
                attempt = told(self.clients[span].attributes)
                assert self.clients[span].trace_id.hex() == trace
                assert attempt["server.port"] == replica.port and attempt["http.response.status_code"] == status, attempt
        seen = Counter(parent.split("-")[2] for replica in (self.proxy.well, self.proxy.sick) for parent, *_ in replica.seen)
        for key, span in self.clients.items():
            port = told(span.attributes)["server.port"]
            assert seen[key] == (0 if port == self.proxy.dead else 1), f"{key} reached nobody, or two"

    def traces_of_trusted_proxies_go_on(self):
        for record in self.truth:
            said, trace, parent = self.proxy.asked[number(record["path"])]
            _, ours, span, flags = record["traceparent"].split("-")
            goes_on, sampled = said in ("followed", "unsampled"), int(flags, 16) & 1
            assert (ours == trace) == goes_on, (said, record["traceparent"])
            assert said not in ("followed", "unsampled") or bool(sampled) == (said == "followed")
            if sampled:
                exported = self.servers[span]
                assert exported.parent_span_id.hex() == (parent if goes_on else ""), said
                states = {each.trace_state for each in [exported, *self.children[span]]}
                assert states == {STATE if goes_on else ""}, states
                # Sampled; and it is known whether the parent is of another process.
                assert exported.flags == (0x301 if goes_on else 0x101), hex(exported.flags)
        for replica in (self.proxy.well, self.proxy.sick):
            for parent, state, *_ in replica.seen:
                assert (state == STATE) == (parent.split("-")[1] in {trace for _, trace, _ in self.proxy.asked.values()})

    def names_are_the_conventions(self):
        for span in self.spans:
            attributes = told(span.attributes)
            self.known(attributes)
            needed = ["http.request.method", "server.address", "server.port"]
            if span.kind == Span.SPAN_KIND_SERVER:
                needed += ["url.path", "url.scheme", "url.query", "http.route", "http.response.status_code", "client.address",
                           "client.port", "network.protocol.version", "user_agent.original"]
                assert span.name == f"{attributes['http.request.method']} {attributes['http.route']}", span.name
            else:
                needed += ["url.full"]
                assert span.name == attributes["http.request.method"], span.name
                path = attributes["url.full"].split("?")[0]
                host = f"http://127.0.0.1:{attributes['server.port']}"
                assert path in {f"{host}{each}" for each in ("/chart", "/flaky", "/missing")}, path
            missing = [name for name in needed if name not in attributes]
            assert not missing, (span.name, missing, attributes)
            assert (span.status.code == Status.STATUS_CODE_ERROR) == ("error.type" in attributes), attributes
        for _, attributes in self.resources:
            assert attributes["service.name"] == "sluicegate", attributes
            self.known({key: value for key, value in attributes.items() if key != "test.way"})
        for record in self.records:
            self.known(told(record.attributes))

    def known(self, attributes):
        foreign = [key for key in attributes if key not in self.names and not key.startswith("sluicegate.")]
        assert not foreign, f"in no convention: {foreign}"

    def errors_are_errors_of_whom_they_are(self):
        for span in self.spans:
            attributes = told(span.attributes)
            status = attributes.get("http.response.status_code")
            # A 4xx is an error of the client: of whoever asks a replica, not of whoever answers.
            least = 500 if span.kind == Span.SPAN_KIND_SERVER else 400
            wrong = status is None or status >= least
            assert (span.status.code == Status.STATUS_CODE_ERROR) == wrong, attributes
            if attributes.get("server.port") == self.proxy.dead and span.kind == Span.SPAN_KIND_CLIENT:
                assert attributes["error.type"] == "connect", attributes

    def metrics_are_there(self):
        last = {metric.name: metric for metric in self.pushes[-1]}
        exchanges = last["sluicegate_exchanges"].sum
        assert exchanges.is_monotonic and exchanges.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
        assert sum(point.as_int or point.as_double for point in exchanges.data_points) == REQUESTS
        taken = {told(point.attributes)["endpoint"]: 0 for point in last["sluicegate_endpoint_exchanges"].sum.data_points}
        assert {f"127.0.0.1:{port}" for port in (self.proxy.well.port, self.proxy.sick.port)} <= set(taken), taken
        durations = last["sluicegate_exchange_duration"]
        assert durations.unit == "s", durations.unit
        total = [point for point in durations.histogram.data_points if told(point.attributes)["stage"] == "total"]
        assert sum(point.count for point in total) == REQUESTS
        for point in total:
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1 and sum(point.bucket_counts) == point.count
        exemplars = [each for point in durations.histogram.data_points for each in point.exemplars]
        traces = {trace for trace, _ in self.sampled.values()}
        assert exemplars and {each.trace_id.hex() for each in exemplars} <= traces, "exemplars name traces that are there"

    def records_are_there(self):
        ids = [told(record.attributes)["log.record.uid"] for record in self.records]
        assert Counter(ids) == Counter(record["id"] for record in self.truth)
        spans = {record["id"]: record["traceparent"].split("-") for record in self.truth}
        for record in self.records:
            _, trace, span, flags = spans[told(record.attributes)["log.record.uid"]]
            assert (record.trace_id.hex(), record.span_id.hex(), f"{record.flags:02x}") == (trace, span, flags)

    def nothing_is_secret(self):
        for what in (*self.spans, *self.records, *(metric for push in self.pushes for metric in push)):
            assert "SECRET" not in str(what), what


def number(target):
    return target.split("number=")[1].split("&")[0]


def resends(span):
    return told(span.attributes).get("http.request.resend_count", 0)


def main(binary):
    with tempfile.TemporaryDirectory(prefix="telemetry-") as home:
        place = pathlib.Path(home)
        far, names = Far(), semantic_names()
        collector = Collector(far, place)
        try:
            for way in ("grpc", "http"):
                proxy = Proxy(binary, way, collector, place)
                try:
                    proxy.drive()
                    # Some pushes while it lives; the last one comes at the end.
                    until("pushes of metrics", lambda: len(far.pushes[way]) >= 2)
                finally:
                    proxy.end()
                sampled = sum(record["traceparent"].endswith("1") for record in proxy.records())
                servers = lambda: sum(span.kind == Span.SPAN_KIND_SERVER for span in far.spans[way])
                until("spans and records", lambda: servers() >= sampled and len(far.records[way]) >= REQUESTS)
                # Whatever is there too often comes with the collector's next batch.
                time.sleep(1)
                with far.lock:
                    Judge(proxy, far, names).all()
        finally:
            collector.end()
            far.server.stop(0).wait()


main(*sys.argv[1:])
