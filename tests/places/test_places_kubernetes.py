"""The manifests: valid to Kubernetes, locked down, and of one mind with the connector's exit codes."""

import re
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from connector import __version__
from connector.daemon.webhooks import PATH
from connector.errors import Exit
from tests.places import manifests
from tests.places.dockerfile import only
from tests.places.manifests import KUBERNETES, MADE_OF, OVERLAYS, Object, Pod

# The oldest where all that is used is stable, and the newest that the package knows.
VERSIONS = ("1.33", kubernetes_validate.latest_version())


# --- Kustomize's part ---------------------------------------------------------------------------------


def test_rendered_is_of_what_stands_in_config() -> None:
    assert MADE_OF.read_text().strip() == manifests.digest(), manifests.__doc__


@pytest.mark.parametrize("name", OVERLAYS)
def test_rendered_is_what_kustomize_makes(name: str) -> None:
    """Where Kustomize is at hand it is asked; elsewhere the digest stands for it."""
    if manifests.kustomize():
        assert manifests.parsed(manifests.render(OVERLAYS[name])) == manifests.objects(name)
    kinds = [each["kind"] for each in manifests.objects(name)]
    assert len(kinds) > 1


def test_each_file_is_in_use() -> None:
    """A manifest that no kustomization names would never reach a cluster."""
    for folder in {file.parent for file in KUBERNETES.rglob("*.yaml")}:
        said = (folder / "kustomization.yaml").read_text(encoding="utf-8")
        for file in folder.iterdir():
            assert file.is_dir() or file.name == "kustomization.yaml" or f"- {file.name}\n" in said, file


# --- Kubernetes' part ---------------------------------------------------------------------------------

ALL = list(manifests.everything())
IDS = [f"{name}-{each['kind']}" for name, each in ALL]


@pytest.mark.parametrize("each", [each for _, each in ALL], ids=IDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid(each: Object, version: str) -> None:
    assert kubernetes_validate.validate(each, version, strict=True)


def test_the_validator_would_say_so() -> None:
    wrong = manifests.find("example", "CronJob")
    wrong["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_secrets_are_never_in_it() -> None:
    for name, each in ALL:
        assert each["kind"] != "Secret", name
        for pair in each.get("data", {}).items() if each["kind"] == "ConfigMap" else ():
            assert not re.search(r"(KEY|DATABASE_URL)(?!_FILE)\b", pair[0]), pair
    for pod in manifests.pods():
        for variable in pod.container.get("env", ()):
            name, value = variable["name"], variable["value"]
            assert not re.search(r"(KEY|DATABASE_URL)$", name), name
            assert not name.endswith("_FILE") or value.startswith("/run/secrets/beamer-segment/")


# --- the pods -----------------------------------------------------------------------------------------

each_pod = pytest.mark.parametrize("pod", manifests.pods(), ids=str)


@each_pod
def test_it_may_do_nothing_that_it_need_not(pod: Pod) -> None:
    uid, gid = (int(number) for number in only("USER").rest.split(":"))
    assert pod.spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "fsGroup": gid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod.spec)
    # Nothing that it could write to: neither the disk of the node nor a folder of the pod's.
    assert {kind for volume in pod.spec["volumes"] for kind in volume} <= {"name", "secret", "configMap"}
    modes = [volume["secret"]["defaultMode"] for volume in pod.spec["volumes"] if "secret" in volume]
    assert modes == [0o440]


@each_pod
def test_it_is_bounded(pod: Pod) -> None:
    assert set(pod.container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in pod.container["resources"]["limits"]
    assert pod.container["image"] == f"registry.example.com/beamer-segment:{__version__}"
    assert "command" not in pod.container, "the image's own entry point"
    assert pod.spec.get("restartPolicy", "Always") == ("Always" if pod.kind == "Deployment" else "Never")


def jobs() -> list[tuple[str, Object]]:
    found = [(f"{name}-{each['kind']}", manifests.job(each)) for name, each in ALL]
    return [(name, spec) for name, spec in found if spec]


@pytest.mark.parametrize(("name", "spec"), jobs(), ids=[name for name, _ in jobs()])
def test_only_what_a_retry_can_mend_is_retried(name: str, spec: Object) -> None:
    (container,) = spec["template"]["spec"]["containers"]
    by_code, disruption = spec["podFailurePolicy"]["rules"]
    codes = by_code["onExitCodes"]
    assert (codes["containerName"], codes["operator"]) == (container["name"], "In")
    assert codes["values"] == sorted(set(codes["values"]))
    hopeless = {Exit.USAGE, Exit.REFUSED, Exit.CONFIGURATION}
    # A migration shows no key to anybody.
    assert set(codes["values"]) == (hopeless - {Exit.REFUSED} if name.startswith("migrate") else hopeless)
    assert by_code["action"] == ("FailIndex" if spec.get("completionMode") == "Indexed" else "FailJob")
    drained = {"type": "DisruptionTarget", "status": "True"}
    assert disruption == {"action": "Ignore", "onPodConditions": [drained]}
    retries = spec.get("backoffLimitPerIndex") or spec["backoffLimit"]
    assert retries >= 2, "69 is worth another try, and so is 1"
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0
    # 75 is no failure of a sync, since the next is near; a backfill tries again.
    words = container["args"]
    assert ("--skip-exit-code" in words) == (words[0] == "sync")


@pytest.mark.parametrize("name", ["example", "schedule", "sharded"])
def test_the_cronjob_runs_one_at_a_time_and_keeps_little(name: str) -> None:
    spec = manifests.find(name, "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 10, "the controller looks every ten seconds"
    assert spec["timeZone"] == "Europe/Berlin"
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 3)


def test_one_of_both_works_the_cronjob_or_the_daemon() -> None:
    for name, replicas, suspended in (("example", 0, False), ("sharded", 0, False), ("schedule", 1, True)):
        assert manifests.find(name, "Deployment")["spec"]["replicas"] == replicas
        assert manifests.find(name, "CronJob")["spec"].get("suspend", False) is suspended


def test_shards_are_counted_as_the_job_counts() -> None:
    spec = manifests.job(manifests.find("sharded", "CronJob"))
    assert spec
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"][:3] == ["sync", "--shard", f"$(JOB_COMPLETION_INDEX)/{spec['completions']}"]
    assert spec["parallelism"] == spec["completions"]


# --- the network --------------------------------------------------------------------------------------


def ports(rules: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((port["protocol"], port["port"]) for rule in rules for port in rule["ports"])


def test_the_network_policy_names_each_way() -> None:
    spec = manifests.find("example", "NetworkPolicy")["spec"]
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
    assert spec["ingress"] == []
    assert ports(spec["egress"]) == [("TCP", 53), ("TCP", 443), ("TCP", 5432), ("UDP", 53)]
    assert all(rule["to"] for rule in spec["egress"]), "a rule without peers would mean everybody"
    (https,) = (rule for rule in spec["egress"] if rule["ports"][0]["port"] == 443)
    # A cloud's metadata service gives out keys to whoever asks.
    assert "169.254.0.0/16" in https["to"][0]["ipBlock"]["except"]


def test_it_holds_for_every_pod() -> None:
    for name in ("example", "schedule", "sharded"):
        selected = manifests.find(name, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
        assert selected
        # The jobs live in the namespace of the example, and so under its policy.
        for overlay, each in ALL:
            if made := manifests.template(each):
                assert selected.items() <= made["metadata"]["labels"].items(), overlay
                assert each["metadata"]["namespace"] == "beamer-segment"


def test_prometheus_alone_comes_to_the_daemon() -> None:
    (rule,) = manifests.find("schedule", "NetworkPolicy")["spec"]["ingress"]
    ((protocol, port),) = ports([rule])
    deployment = manifests.find("schedule", "Deployment")["spec"]["template"]
    assert (protocol, str(port)) == ("TCP", deployment["metadata"]["annotations"]["prometheus.io/port"])
    assert deployment["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": port}]


def test_the_outside_comes_to_the_route_for_webhooks_only() -> None:
    container = manifests.pod("webhooks", "Deployment").container
    variables = {each["name"]: each["value"] for each in container["env"]}
    port = int(variables["BEAMER_WEBHOOK_BIND"].rpartition(":")[2])
    assert variables["CONNECTOR_BIND"] != variables["BEAMER_WEBHOOK_BIND"]
    assert {"name": "webhooks", "containerPort": port} in container["ports"]
    (rule,) = manifests.find("webhooks", "Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["path"] == PATH
    service = manifests.find("webhooks", "Service")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["webhooks"]
    labels = manifests.find("webhooks", "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    rules = manifests.find("webhooks", "NetworkPolicy")["spec"]["ingress"]
    assert ports(rules) == [("TCP", 8080), ("TCP", port)]


def test_the_namespace_takes_no_lesser_pod() -> None:
    labels = yaml.safe_load((KUBERNETES / "overlays/example/namespace.yaml").read_text())["metadata"][
        "labels"
    ]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
