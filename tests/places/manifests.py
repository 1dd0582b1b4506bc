"""The manifests as Kubernetes would get them: what Kustomize made of each overlay, kept in `rendered/`.

Kustomize is one program for all platforms, but no package of ours brings it. So its words are kept, with a
digest of what they were made of. Whoever changes a manifest makes them anew, with kubectl or kustomize at
hand: .venv/bin/python -m tests.places.manifests
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.places.dockerfile import ROOT

KUBERNETES = ROOT / "config" / "kubernetes"
RENDERED = Path(__file__).parent / "rendered"
MADE_OF = RENDERED / "made-of.sha256"
OVERLAYS = {
    "example": "overlays/example",
    "migrate": "overlays/example/migrate",
    "backfill": "overlays/example/backfill",
    "schedule": "overlays/schedule",
    "sharded": "overlays/sharded",
    "webhooks": "overlays/webhooks",
}

Object = dict[str, Any]


def objects(name: str) -> list[Object]:
    """What an overlay puts into a cluster."""
    return parsed((RENDERED / f"{name}.yaml").read_text(encoding="utf-8"))


def parsed(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def everything() -> Iterator[tuple[str, Object]]:
    for name in OVERLAYS:
        for each in objects(name):
            yield name, each


def find(name: str, kind: str) -> Object:
    """The only object of that kind in an overlay."""
    (found,) = (each for each in objects(name) if each["kind"] == kind)
    return found


def digest() -> str:
    """Of every file that Kustomize reads."""
    found = hashlib.sha256()
    for file in sorted(path for path in KUBERNETES.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(KUBERNETES)}\n".encode() + file.read_bytes())
    return found.hexdigest()


def kustomize() -> list[str] | None:
    """The command that renders, where there is one."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def render(overlay: str) -> str:
    command = kustomize()
    assert command, "Neither kustomize nor kubectl was found; one of them has to render the manifests."
    folder = str(KUBERNETES / overlay)
    return subprocess.run([*command, folder], capture_output=True, text=True, check=True).stdout


def update() -> None:
    for name, overlay in OVERLAYS.items():
        (RENDERED / f"{name}.yaml").write_text(render(overlay), encoding="utf-8")
    MADE_OF.write_text(f"{digest()}\n", encoding="utf-8")


# --- what runs in them ------------------------------------------------------------------------------------


def job(each: Object) -> Object | None:
    """The Job's spec in a Job or CronJob."""
    specs = {"Job": lambda: each["spec"], "CronJob": lambda: each["spec"]["jobTemplate"]["spec"]}
    return specs[each["kind"]]() if each["kind"] in specs else None


def template(each: Object) -> Object | None:
    """The pod's template in whatever makes pods."""
    spec = job(each) or (each["spec"] if each["kind"] == "Deployment" else None)
    return spec and spec["template"]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's only container and what surrounds it."""

    overlay: str
    kind: str
    spec: Object

    @property
    def container(self) -> Object:
        (found,) = self.spec["containers"]
        return dict(found)

    def __str__(self) -> str:
        return f"{self.overlay}-{self.kind}"


def pod(overlay: str, kind: str) -> Pod:
    found = template(find(overlay, kind))
    assert found
    return Pod(overlay, kind, found["spec"])


def pods() -> list[Pod]:
    """Every kind of pod in every overlay."""
    return [pod(name, each["kind"]) for name, each in everything() if template(each)]


if __name__ == "__main__":
    update()
