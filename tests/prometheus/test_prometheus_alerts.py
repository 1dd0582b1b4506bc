"""The alert rules: metrics and labels that exist, a way out in each, and what promtool says of them."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.reporting.metrics import BY_NAME, PREFIX
from tests.docs.test_docs_examples import judge, shell_commands

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "alerts.yaml"
PLAYED = Path(__file__).parent / "alerts_test.yaml"
# What a connection is woken for, as the README promises.
WANTED = {
    "BeamerSegmentNothingDelivered",
    "BeamerSegmentQuotaGone",
    "BeamerSegmentDeadLetters",
    "BeamerSegmentKeyRefused",
    "BeamerSegmentCountersDistrusted",
    "BeamerSegmentDown",
    "BeamerSegmentOutboxGrowing",
    "BeamerSegmentOutboxStuck",
}


@dataclass(frozen=True)
class Rule:
    """One alert, its expression on one line and its texts in one."""

    name: str
    expr: str
    body: str

    @property
    def labels(self) -> set[str]:
        """What its expression keeps of its metrics' labels."""
        return {name for found in re.findall(r"by \(([\w, ]+)\)", self.expr) for name in found.split(", ")}


def rules() -> list[Rule]:
    """Read without a YAML library, which nothing else here needs; promtool reads the whole of it."""
    found = []
    for body in re.split(r"^ {6}- alert: ", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        block = re.search(r"^ {8}expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", body, re.MULTILINE)
        assert block, body
        expr = " ".join((block[1] or block[2]).split())
        # The comments of the next group stand at the end.
        text = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("#"))
        found.append(Rule(body.splitlines()[0], expr, text))
    return found


ALL = rules()


def ident(rule: Rule) -> str:
    return rule.name


def test_what_was_promised_is_there() -> None:
    names = [rule.name for rule in ALL]
    assert set(names) >= WANTED
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rule", ALL, ids=ident)
def test_metrics_and_labels_are_those_of_the_catalogue(rule: Rule) -> None:
    metrics = [BY_NAME.get(name.removeprefix(PREFIX)) for name in re.findall(rf"\b{PREFIX}\w+", rule.expr)]
    assert None not in metrics, rule.expr
    assert metrics or rule.expr.startswith("up{"), rule.expr
    for metric in metrics:
        # Prometheus puts these on by itself.
        assert metric is None or rule.labels - {"instance", "job"} <= set(metric.labels), rule.expr


@pytest.mark.parametrize("rule", ALL, ids=ident)
def test_each_says_how_bad_it_is_what_it_is_and_what_to_do(rule: Rule) -> None:
    assert re.search(r"^ {8}labels: {severity: (critical|warning|info)}$", rule.body, re.MULTILINE)
    assert re.search(r'^ {10}summary: ".+"$', rule.body, re.MULTILINE)
    assert " Do: " in " ".join(rule.body.split())
    # A text may only name a label that is there.
    assert set(re.findall(r"\$labels\.(\w+)", rule.body)) <= rule.labels


@pytest.mark.parametrize("rule", ALL, ids=ident)
def test_the_commands_that_it_names_exist(rule: Rule) -> None:
    for line in re.findall(r"`(beamer-segment [^`]+)`", " ".join(rule.body.split())):
        for words in shell_commands(line):
            judge(words)


def test_every_rule_is_played_through() -> None:
    played = PLAYED.read_text(encoding="utf-8")
    for rule in ALL:
        # Once where nothing is wrong, and once where it fires.
        assert f"alertname: {rule.name}}}" in played, f"{rule.name} is not shown to be silent"
        assert len(re.findall(rf"\b{rule.name}\b(?!}}}}$)", played)) > 1, f"{rule.name} is not shown to fire"


# --- promtool ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool was not found; Debian has it in the package prometheus"
        if os.environ.get("REQUIRE_PROMTOOL"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.mark.parametrize("words", [("check", "rules", str(RULES)), ("test", "rules", str(PLAYED))])
def test_promtool_agrees(promtool: str, words: tuple[str, ...]) -> None:
    ended = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCESS" in ended.stdout
