#!/usr/bin/env python3
"""Asks a real Prometheus every question of the dashboard and of the alerts.

It scrapes the given /metrics, and this fails for each panel whose query is refused or finds nothing: a panel that stays
empty is one that nobody trusts. An alert finds nothing while all is well, so each series that it looks at is asked for
instead; whether it fires is what `promtool test rules` says.

    scripts/dashboard_check.py --metrics-url http://127.0.0.1:8080/metrics

Only the standard library, and the Prometheus of scripts/prometheus.sh.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "bam-operator"

# What Grafana would put there. A rate needs some scrapes, which come every second here.
VARIABLES = {
    **{"__rate_interval": "10s", "__interval": "10s", "__range": "60s"},
    **{"namespace": ".*", "experiments": ".*", "datasource": "here"},
}
SELECTOR = re.compile(r"\b((?:bam|process|controller_runtime|workqueue)_[a-z_]+)\b(\{[^}]*\})?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics-url", required=True, help="the operator's /metrics")
    parser.add_argument("--dashboard", type=Path, default=CHART / "dashboards" / "bam.json")
    parser.add_argument("--alerts", type=Path, default=CHART / "alerts" / "bam.yaml")
    parser.add_argument("--timeout", type=float, default=60, help="seconds until every query must have found something")
    arguments = parser.parse_args()

    dashboard = json.loads(arguments.dashboard.read_text())
    faults = faults_of_layout(dashboard)
    with tempfile.TemporaryDirectory(prefix="bam-prometheus-") as folder:
        with Prometheus(Path(folder), arguments.metrics_url, arguments.alerts) as prometheus:
            questions = panels(dashboard) + annotations(dashboard) + variables(dashboard) + prometheus.alerts()
            faults += ask(prometheus, questions, arguments.timeout)
    for fault in faults:
        print(f"FAILED: {fault}")
    print(f"{len(questions)} queries, {len(faults)} faults")
    return 1 if faults else 0


def faults_of_layout(dashboard):
    """Panels with one id, on top of each other, or beyond the edge."""
    faults, seen, taken = [], {}, {}
    for panel in dashboard["panels"]:
        title, place = panel["title"], panel["gridPos"]
        if panel["id"] in seen:
            faults.append(f"panel '{title}' has the id of '{seen[panel['id']]}'")
        seen[panel["id"]] = title
        if place["x"] + place["w"] > 24:
            faults.append(f"panel '{title}' ends beyond the edge")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if taken.setdefault((x, y), title) != title:
                    faults.append(f"panel '{title}' lies on '{taken[x, y]}'")
                    break
            else:
                continue
            break
    return faults


def panels(dashboard):
    """(who asks, the query), each panel and target."""
    return [
        (f"panel '{panel['title']}' ({target['refId']})", filled_in(target["expr"]))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def annotations(dashboard):
    """They find nothing while nothing happens, like alerts."""
    return [
        question
        for annotation in dashboard["annotations"]["list"]
        if "expr" in annotation
        for question in selectors(f"annotation '{annotation['name']}'", filled_in(annotation["expr"]))
    ]


def variables(dashboard):
    """`label_values(metric, label)` as a query."""
    questions = []
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", ""))
        if match:
            questions.append((f"variable ${variable['name']}", f'count by ({match[2]}) ({match[1]}{{{match[2]}!=""}})'))
    return questions


def selectors(who, expression):
    """Each series that an expression looks at."""
    return [(f"{who}: {match[0]}", f"count({match[0]})") for match in SELECTOR.finditer(expression)]


def filled_in(expression):
    for name, value in VARIABLES.items():
        expression = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", value, expression)
    return expression


def ask(prometheus, questions, timeout):
    """Asks until each question has found something. Returns the faults of those that did not."""
    deadline = time.monotonic() + timeout
    waiting, faults = questions, {}
    while waiting:
        left = []
        for who, query in waiting:
            try:
                series = prometheus.query(query)
            except Refused as refusal:
                faults[who, query] = f"{who}: {refusal}: {query}"
                continue
            if not series:
                faults[who, query] = f"{who} finds nothing: {query}"
                left.append((who, query))
                continue
            faults.pop((who, query), None)
            print(f"ok: {who}: {len(series)} series")
        waiting = left
        if time.monotonic() > deadline:
            break
        if waiting:
            time.sleep(1)
    if faults:
        faults = dict(sorted(faults.items(), key=lambda item: questions.index(item[0])))
        print(prometheus.why_nothing(), end="")
    return list(faults.values())


class Refused(Exception):
    """Prometheus does not understand a query."""


class Prometheus:
    """One that runs as long as the `with`, on a free port, in a folder of its own."""

    def __init__(self, folder, metrics_url, alerts):
        self.folder = folder
        target = urllib.parse.urlsplit(metrics_url)
        # JSON is YAML. The label is what a scrape in a cluster adds.
        job = {
            "job_name": "bam-operator",
            "scheme": target.scheme,
            "metrics_path": target.path,
            "honor_labels": True,
            "static_configs": [{"targets": [target.netloc], "labels": {"namespace": "bam-system"}}],
        }
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration = {"global": every, "rule_files": [str(alerts.resolve())], "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self):
        programs = subprocess.run([ROOT / "scripts" / "prometheus.sh"], check=True, stdout=subprocess.PIPE, text=True)
        command = [
            os.path.join(programs.stdout.strip(), "prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def wait(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.open("/-/ready"):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    sys.exit("error: Prometheus does not start:\n" + self.log.read()[-4000:])
                time.sleep(0.1)

    def open(self, path, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        # A machine's proxy does not lead to its loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(f"http://{self.address}{path}{query}", timeout=10)

    def query(self, query):
        try:
            with self.open("/api/v1/query", query=query) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error).get("error", str(error))) from None

    def alerts(self):
        """What the alerts look at, as Prometheus itself has read them."""
        with self.open("/api/v1/rules", type="alert") as answer:
            groups = json.load(answer)["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [question for rule in rules for question in selectors(f"alert {rule['name']}", rule["query"])]

    def why_nothing(self):
        """If nothing at all could be scraped, that is the reason."""
        with self.open("/api/v1/targets") as answer:
            targets = json.load(answer)["data"]["activeTargets"]
        return "".join(f"{target['scrapeUrl']}: {target['lastError']}\n" for target in targets if target["lastError"])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
