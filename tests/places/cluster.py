"""A pod's container run as its manifest says: its arguments, its environment, its mounts; nothing else.

A mount is a folder of the test's own, laid out as kubelet does it, and its path is put where the manifest's
stands. Beamer and Segment are told by their addresses, as a proxy's would be.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.process import Ended
from tests.places.image import Container, Image
from tests.places.manifests import Pod, objects

# Every pod has these, whatever enableServiceLinks says.
OF_EVERY_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A node with the secret in it that the README makes; `around` is where the neighbours are."""

    image: Image
    here: Path
    secret: Mapping[str, str]
    around: Mapping[str, str]

    def start(self, pod: Pod, **given: str) -> Container:
        """Start the pod's container; `given` is what Kubernetes adds, or a port that is free here."""
        container = pod.container
        paths = self._mount(pod)
        environ = {**OF_EVERY_POD, **self._environment(pod), **given}
        words = [_expanded(word, environ) for word in container["args"]]
        environ = {name: _moved(value, paths) for name, value in environ.items()}
        uid = pod.spec["securityContext"]["runAsUser"]
        return self.image.start(words, {**environ, **self.around}, uid=uid)

    def run(self, pod: Pod, **given: str) -> Ended:
        return self.start(pod, **given).end()

    def _environment(self, pod: Pod) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in pod.container.get("envFrom", ()):
            found |= _config_map(pod, source["configMapRef"]["name"])
        return found | {each["name"]: each["value"] for each in pod.container.get("env", ())}

    def _mount(self, pod: Pod) -> dict[str, str]:
        """Put each volume's files onto the disk; mount paths and where they are here."""
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounts = pod.container["volumeMounts"]
        paths = {mount["mountPath"]: str(self.disk(pod) / mount["mountPath"][1:]) for mount in mounts}
        for mount in mounts:
            assert mount["readOnly"] is True
            place = Path(paths[mount["mountPath"]])
            if not place.exists():  # nor made for the pod before
                files = self._files(pod, volumes[mount["name"]])
                _lay_out(place, {name: _moved(text, paths) for name, text in files.items()})
        return paths

    def disk(self, pod: Pod) -> Path:
        """Where a pod's files lie."""
        return self.here / f"{pod}"

    def _files(self, pod: Pod, volume: Mapping[str, Any]) -> Mapping[str, str]:
        if "configMap" in volume:
            return _config_map(pod, volume["configMap"]["name"])
        assert volume["secret"]["secretName"] == "beamer-segment-secrets"
        items = volume["secret"].get("items")
        return {each["path"]: self.secret[each["key"]] for each in items} if items else self.secret


def _config_map(pod: Pod, name: str) -> dict[str, str]:
    maps = {each["metadata"]["name"]: each for each in objects(pod.overlay) if each["kind"] == "ConfigMap"}
    return dict(maps[name]["data"])


def _lay_out(place: Path, files: Mapping[str, str]) -> None:
    """Kubelet's way: names are links into `..data`, a link to the folder of now."""
    now = place / "..2026_11_01_00_00_00.1"
    now.mkdir(parents=True)
    (place / "..data").symlink_to(now.name)
    for name, text in files.items():
        (now / name).write_text(text)
        (place / name).symlink_to(Path("..data") / name)


def _expanded(word: str, environ: Mapping[str, str]) -> str:
    """`$(NAME)` in arguments, as kubelet does it: what is not known stays as it is."""
    return re.sub(r"\$\((\w+)\)", lambda found: environ.get(found[1], found[0]), word)


def _moved(text: str, paths: Mapping[str, str]) -> str:
    for path, place in paths.items():
        text = text.replace(f"{path}/", f"{place}/")
    return text
