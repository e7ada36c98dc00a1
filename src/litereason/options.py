"""Options of a stage: a dataclass, filled from a YAML recipe and `--key value` overrides.

A recipe has keys that every stage shares (`model`, `task`, `run_dir`...) at the top and one section a
stage. On the command line, keys are the stage's own fields, dotted keys reach into dictionaries
(`--task_options.data stories.jsonl`), and any option of the stage's Hugging Face trainer is taken as
well (`--learning_rate 5e-7`).
"""

import dataclasses
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from litereason.errors import ConfigError, did_you_mean

STAGES = (
    *("collect", "sft", "rl", "eval", "write", "prefer", "report", "generate", "inspect", "audit"),
    *("books", "demo", "compare"),
)
NAMED = ("changes", "variants")  # sections of names
COMPARED = ("collect", "sft", "rl", "eval")
Choice = typing.TypeVar("Choice")


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and the help that `--help` shows."""
    return dataclasses.field(default=default, metadata={"help": text})


def read_recipe(path: str | Path, stage: str) -> dict[str, Any]:
    """The shared keys of a recipe and those of one stage, flat; or all of the config.yaml of a stage.

    Raises:
        ConfigError: no such file, or not a mapping.
    """
    source = Path(path)
    if not source.is_file():
        # also where it was looked for in the wrong directory: litereason's own are in `recipes`
        near = {
            str(path) for home in (source.parent, Path("recipes")) for path in home.glob("*.yaml")
        }
        raise ConfigError(f"no such recipe: {source}.{did_you_mean(str(source), near)}")
    try:
        recipe = yaml.safe_load(source.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ConfigError(f"{source}: expected `key: value` lines, got {type(recipe).__name__}")
    if isinstance(recipe.get("settings"), dict) and "versions" in recipe:
        return recipe["settings"]  # the config.yaml that a stage left
    section = recipe.get(stage) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{source}: the section {stage!r} must hold `key: value` lines")
    shared = {key: value for key, value in recipe.items() if key not in STAGES}
    if stage == "compare":  # runs the others, so it is told what they are told
        shared |= {key: recipe[key] for key in COMPARED if recipe.get(key)}
    return shared | section


def read_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key value`, `--key=value` and `--flag` as a dictionary; dotted keys nest.

    Raises:
        ConfigError: a word that is no option.
    """
    found: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise ConfigError(f"unexpected argument {word!r}; options are written --name value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        parts = key.split(".")
        # what stands between an option and its section is a name, such as an arm's, hyphens and all
        ends = (0, len(parts) - 1) if parts[0] not in NAMED or len(parts) > 2 else (0,)
        parts = [p.replace("-", "_") if i in ends else p for i, p in enumerate(parts)]
        place = found
        for number, part in enumerate(parts[:-1], 1):
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"--{key}: --{'.'.join(parts[:number])} has a value already; give one of the two"
                )
        place[parts[-1]] = Text(value)
    return found


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `over` in their place, in dictionaries of any depth."""
    found = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


class Text(str):
    """A value as it stood on the command line; what it means depends on the option's type."""


def scalar(text: str) -> Any:
    """A value as YAML reads it, but `5e-7` is a number."""
    text = str(text)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return text
    return text if value is None and text.lower() not in ("null", "none", "~") else value


def build(stage: type, values: dict[str, Any], trainer: type | None = None) -> Any:
    """An instance of the dataclass `stage`; options of `trainer` go to its field `trainer`.

    Raises:
        ConfigError: an option that neither has, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(stage)}
    inner = {field.name for field in dataclasses.fields(trainer)} if trainer else set()
    known: dict[str, Any] = {}
    given = dict(values.get("trainer") or {})
    extra: dict[str, Any] = {}
    for key, value in values.items():
        if key in fields and key != "trainer":
            known[key] = coerce(stage, key, value)
        elif key in inner:
            given[key] = value
        elif key != "trainer":
            hint = did_you_mean(key, {*fields, *inner}, "--")
            raise ConfigError(f"unknown option --{key}.{hint} `--help` lists them")
    if unknown := sorted(set(given) - inner):
        raise ConfigError(f"unknown trainer options {unknown}")
    if trainer:
        extra = {key: coerce(trainer, key, value) for key, value in given.items()}
        known["trainer"] = extra
    missing = [
        name
        for name, field in fields.items()
        if name not in known
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"{' and '.join('--' + name for name in missing)} must be given, on the command line or "
            "in the recipe"
        )
    return stage(**known)


def coerce(stage: type, name: str, value: Any) -> Any:
    """`value` as the type that the field declares.

    Raises:
        ConfigError: it cannot be.
    """
    return fitted(typing.get_type_hints(stage)[name], name, value)


def fitted(kind: Any, name: str, value: Any) -> Any:
    """`value` as the type `kind`; `name` is the option's.

    Raises:
        ConfigError: it cannot be.
    """
    union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    options = [typing.get_origin(o) or o for o in (typing.get_args(kind) if union else (kind,))]
    if isinstance(value, dict):
        value = _read(value)
    if isinstance(value, Text):
        if {*options} <= {str, type(None)}:
            absent = type(None) in options and value.lower() in ("null", "none", "~")
            return None if absent else str(value)
        text, value = str(value), scalar(value)
        if tuple in options and isinstance(value, str) and "," in value:
            value = [scalar(part) for part in value.split(",")]
        if isinstance(value, bool) and str in options and not {bool, Any} & {*options}:
            value = text  # YAML reads `no` as false
    elif value is False and str in options and not {bool, Any} & {*options}:
        value = "no"
    elif isinstance(value, str) and float in options:
        value = scalar(value)  # YAML reads 5e-7 as text
    for base in options:
        if value is None and base is type(None):
            return None
        if isinstance(value, bool) and base not in (bool, Any):
            continue
        if base is Any or (isinstance(base, type) and isinstance(value, base)):  # pyright: ignore[reportArgumentType]
            return value
        if base is float and isinstance(value, int):
            return float(value)
        single = str if typing.get_args(kind)[:1] == (str,) else (int, float)
        if base is tuple and isinstance(value, (list, single)):
            return tuple(value) if isinstance(value, list) else (value,)
    if str in options and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    called: dict[Any, str] = {tuple: "a list (1,2,3)"}
    names = " or ".join(called.get(o) or getattr(o, "__name__", str(o)) for o in options)
    raise ConfigError(f"--{name} is {value!r}; expected {names}")


def _read(value: Any) -> Any:
    """What stood on the command line as YAML reads it, in dictionaries of any depth."""
    if isinstance(value, dict):
        return {key: _read(inner) for key, inner in value.items()}
    return scalar(value) if isinstance(value, Text) else value


def choose(
    flag: str, kinds: Mapping[str, type[Choice]], name: str, options: dict[str, Any]
) -> Choice:
    """What `--FLAG NAME` and `--FLAG_options.OPTION VALUE` stand for: `kinds[name](**options)`.

    Args:
        flag: the option's name.
        kinds: dataclasses, whose fields are their options.

    Raises:
        ConfigError: an unknown name or option, or a value that is out of range.
    """
    if name not in kinds:
        raise ConfigError(f"--{flag} is {name!r}; expected one of {', '.join(kinds)}")
    kind: Any = kinds[name]
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := [option for option in options if option not in known]:
        raise ConfigError(
            f"--{flag}_options.{unknown[0]} is unknown to {name}; it takes "
            f"{', '.join(known) or 'none'}"
        )
    try:
        return kind(**{option: coerce(kind, option, value) for option, value in options.items()})
    except ConfigError as error:
        raise ConfigError(f"--{flag}_options of {name}: {error}") from error


def command(stage: str, config: Any) -> str:
    """The command line that repeats a stage."""
    words = [f"litereason {stage}"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            continue
        if isinstance(value, dict):
            words += [f"--{field.name}.{key} {_shell(item)}" for key, item in value.items()]
        elif value is not None:
            words.append(f"--{field.name} {_shell(value)}")
    return " ".join(words)


def _shell(value: Any) -> str:
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)
    return shlex.quote(text)
