"""What every setting has: its name in the environment, its key in TOML (the field), its form, its reason."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PrivateAttr

from connector.config import values

NAME_FORM = "1 to 40 letters, digits, '_' and '.'"

Lower = BeforeValidator(values.lowered)
Upper = BeforeValidator(values.uppered)
Number = BeforeValidator(values.number)
Name = Annotated[str, BeforeValidator(values.name)]
Duration = Annotated[timedelta, BeforeValidator(values.duration), AfterValidator(values.sensible_duration)]


@dataclass(frozen=True, slots=True)
class Setting:
    """A field's name in the environment, the form it takes, and what it is for."""

    environment: str
    form: str
    description: str
    secret: bool = False


class Configured(BaseModel):
    """A model whose annotations hold `Setting`s, and which remembers where its values came from."""

    # Pydantic repeats a refused value in its errors unless told not to: it may be a key.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _holders: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """The settings among the fields, by field."""
        return {
            key: setting
            for key, field in cls.model_fields.items()
            for setting in field.metadata
            if isinstance(setting, Setting)
        }

    def source(self, key: str) -> str:
        """'default', 'environment', 'env file', or the path of the file that gave it."""
        return self._sources.get(key, "default")

    def holder(self, key: str) -> str:
        """The variable or the file that a secret stands in."""
        return self._holders.get(key) or self.settings()[key].environment

    def remember(self, sources: dict[str, str], holders: dict[str, str]) -> None:
        """Keep where each field came from, for `config show` and for errors."""
        self._sources.update(sources)
        self._holders.update(holders)
