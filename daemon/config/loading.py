"""Reading the configuration: config.yaml, the environment over it, ``--set`` over both.

``load`` is called once, in ``cli``; everything else in the program receives values. Whatever cannot be used is a
``ConfigError`` of one line that names the key, the value and the rule.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from daemon.config.messages import explain, nearest, place_of
from daemon.config.origins import Origins
from daemon.config.sections import Settings
from daemon.documents import MAX_DEPTH, DocumentError, from_json, from_yaml, one_line, read_file, shown
from daemon.errors import ConfigError


class Document(PydanticBaseSettingsSource):
    """The parsed config.yaml as a source of settings; the environment goes before it."""

    def __init__(self, settings_cls: type[BaseSettings], document: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self.document = document

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self.document.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self.document)


class Environment(EnvSettingsSource):
    """The environment as a source of settings: JSON where it is JSON, else the text (``10 per day``).

    ``null`` and an empty text are null wherever the key can be null: a variable cannot be given in another way.
    """

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = _with_nulls(super().__call__(), self.settings_cls)
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The parsed JSON; any other text is left to the rules of its key, which explain what is wrong."""
        try:
            return from_json(value)
        except DocumentError as error:
            raise ConfigError(f"environment, {field_name}: {error}") from error
        except ValueError:
            return value


def _with_nulls(values: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """The values of a section, with null for the texts that mean it."""
    found = dict(values)
    for name, value in values.items():
        known = section.model_fields.get(name)
        if known is None:
            continue
        inner = known.annotation
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel):
            found[name] = _with_nulls(value, inner)
        elif value in ("", "null") and _can_be_null(known):
            found[name] = None
    return found


def _can_be_null(known: FieldInfo) -> bool:
    try:
        TypeAdapter(known.rebuild_annotation()).validate_python(None)
    except ValidationError:
        return False
    return True


def settings_over(document: Mapping[str, Any]) -> type[Settings]:
    """``Settings`` that take what arguments and environment leave open from ``document``."""

    class WithDocument(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, Environment(settings_cls), Document(settings_cls, document)

    return WithDocument


def read_document(path: Path) -> dict[str, Any]:
    """Parse config.yaml.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    try:
        data = read_file(path)
    except DocumentError as error:
        absent = isinstance(error.__cause__, FileNotFoundError)
        hint = "; 'anomalyd init SAMPLE' writes one" if absent else ""
        raise ConfigError(f"{path}: {error}{hint}") from error
    try:
        document = from_yaml(data)
    except DocumentError as error:
        raise ConfigError(f"{path}: not usable YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not a {type(document).__name__}")
    return document


def load(path: Path | None, sets: Sequence[str] = (), document: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: config.yaml, or None when ``document`` stands in for it.
        sets: ``key.path=value`` overrides, values in YAML; they win over everything.
        document: the content of a file that does not exist (a derived configuration).

    Raises:
        ConfigError: one line that names the key, the value and the rule.
    """
    data = copy.deepcopy(dict(document or {})) if path is None else read_document(path)
    origins = Origins(str(path) if path else "settings")
    origins.take_environment()
    overrides: dict[str, Any] = {}
    for text in sets:
        key, separator, value = text.partition("=")
        option = f"--set {shown(text)}"
        if not separator or not key:
            raise ConfigError(f"{option}: write KEY=VALUE, as retrain.every=10m")
        try:
            parsed = from_yaml(value)
        except DocumentError as error:
            raise ConfigError(f"{option}: the value is not usable YAML: {error}") from error
        parts = key.split(".")
        if parts[0] not in Settings.model_fields:  # pydantic-settings has arguments of its own, as _env_file
            raise ConfigError(f"{option}: unknown key {shown(parts[0])}{nearest(parts[:1])}")
        if len(parts) > MAX_DEPTH:
            raise ConfigError(f"{option}: a key of {len(parts)} parts")
        keys = put(data if parts[0] == "streams" else overrides, parts, parsed, option)
        origins.take(option, keys, parsed)
    try:
        settings = settings_over(data)(**overrides)
    except ValidationError as error:
        raise ConfigError(one_line(f"{origins.of(place_of(error))}: {explain(error)}")) from error
    for key, found in texts(settings.model_dump()):
        if unusable(found):
            raise ConfigError(
                f"{origins.of(key.split('.'))}: {one_line(key)}: {shown(str(found))} holds a character that no text can have"
            )
    return settings


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str | Path]]:
    """Every text and path in the settings, with its key; the keys of mappings are texts too."""
    if isinstance(value, (str, Path)):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield key, str(name)
            yield from texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from texts(inner, f"{key}.{i}")


def unusable(value: str | Path) -> bool:
    """Whether a text has a NUL or half of a surrogate pair; a path may have the latter, for undecodable bytes."""
    text = str(value)
    return "\0" in text or (isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in text))


def put(target: Any, parts: Sequence[str], value: Any, option: str) -> list[str]:
    """Set a nested key; ``streams.0.window`` and ``streams.pumps.window`` both name a stream.

    Returns:
        The keys, with the number of a stream for its name.

    Raises:
        ConfigError: there is no such stream, or nothing can be below a part of the key; begins with ``option``.
    """
    keys = list(parts)
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(target, list):
            index = next(
                (
                    j
                    for j, x in enumerate(target)
                    if str(j) == part or (isinstance(x, dict) and x.get("name") == part)
                ),
                None,
            )
            if index is None:
                raise ConfigError(f"{option}: there is no stream {shown(part)}")
            keys[i] = str(index)
            if last:
                target[index] = value
            else:
                target = target[index]
        elif not isinstance(target, dict):
            raise ConfigError(f"{option}: {shown(parts[i - 1])} has no keys below it")
        elif last:
            target[part] = value
        else:
            target = target.setdefault(part, {})
    return keys
