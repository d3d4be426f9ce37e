"""Fields of a phantom's YAML file, and the files that are shipped."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from veriserum_hf.core import listed, load_plain_yaml, one_line, read_text
from veriserum_hf.errors import CalibrationError

_DATA = resources.files("veriserum_hf.calibration") / "phantom_data"
_MOST_PLACES, _FARTHEST_PLACE = 40_000, 999

T = TypeVar("T")


def shipped_phantoms(kind: str | None = None) -> list[str]:
    """Names of the phantoms that are part of this package; those of one kind, "grid" or "markers", if it is given."""
    names = sorted(Path(entry.name).stem for entry in _DATA.iterdir() if entry.name.endswith(".yaml"))
    return [name for name in names if kind is None or Fields.shipped(name).values["kind"] == kind]


@dataclass(frozen=True)
class Fields:
    """Fields of a file, each read with a check."""

    file: str
    values: Mapping[str, Any]

    @classmethod
    def shipped(cls, name: str) -> "Fields":
        """Fields of a shipped phantom."""
        return cls.parsed(name, name, (_DATA / f"{name}.yaml").read_text(encoding="utf-8"))

    @classmethod
    def read(cls, path: Path, kind: str) -> "Fields":
        """Fields of a file; if there is none, the error names the shipped phantoms of a kind."""
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise CalibrationError(
                f"{path}: there is no such file, and no phantom of this name is shipped; those of the kind {kind} "
                f"are {listed(shipped_phantoms(kind))}"
            ) from None
        except (OSError, ValueError) as error:
            raise CalibrationError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        return cls.parsed(path.stem, str(path), text)

    @classmethod
    def parsed(cls, name: str, file: str, text: str) -> "Fields":
        """Fields of a text; ``file`` is what messages begin with."""
        import yaml  # as in `load_plain_yaml`

        try:
            values = load_plain_yaml(text)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise CalibrationError(f"{file}: not plain YAML: {one_line(str(error))}") from error
        if not isinstance(values, dict):
            raise CalibrationError(f"{file}: expected fields with values (`pitch_mm: 7`), found {shown(values)}")
        return cls(file, {"name": name, **{str(key): value for key, value in values.items() if key != "name"}})

    def only(self, kind: str, known: tuple[str, ...]) -> None:
        """Refuse a file of another kind, or with other fields."""
        self.get("kind", f"`{kind}`", lambda value: value if value == kind else None)
        if unknown := [key for key in self.values if key not in ("name", "kind", *known)]:
            raise CalibrationError(
                f"{self.file}: no such field: {listed(unknown)}; the fields are {', '.join(known)}"
            )

    def fault(self, field: str, expected: str) -> CalibrationError:
        """Error for the value of a field."""
        found = shown(self.values[field]) if field in self.values else "nothing"
        return CalibrationError(f"{self.file}: {field}: found {found}, expected {expected}")

    def get(self, field: str, expected: str, check: Callable[[Any], T | None], default: T | None = None) -> T:
        """Value of a field as a check returns it; None is a fault. A field with a default may be absent."""
        if field not in self.values and default is not None:
            return default
        try:
            value = check(self.values.get(field))
        except (TypeError, ValueError, OverflowError, AttributeError):
            value = None
        if value is None:
            raise self.fault(field, expected)
        return value

    def number(self, field: str, low: float, high: float) -> float:
        """A number above one limit and not above another."""
        expected = f"a number greater than {low:g} and at most {high:g}"
        return self.get(field, expected, lambda value: number_in(value, low, high))

    def choice(self, field: str, *words: str, required: bool = False) -> str:
        """One of several words; the first if absent, unless it is required."""
        default = None if required else words[0]
        return self.get(field, " or ".join(words), lambda value: value if value in words else None, default)

    def places(self, field: str) -> tuple[tuple[int, int], ...]:
        """Pairs of column and row; none if absent."""
        expected = "a list of different places [column, row], counted from [0, 0] at the lower left"

        def check(value: Any) -> tuple[tuple[int, int], ...] | None:
            pairs = tuple(
                (
                    whole_in(column, -_FARTHEST_PLACE, _FARTHEST_PLACE),
                    whole_in(row, -_FARTHEST_PLACE, _FARTHEST_PLACE),
                )
                for column, row in value
            )
            return pairs if isinstance(value, list) and len(set(pairs)) == len(pairs) <= _MOST_PLACES else None

        return self.get(field, expected, check, ())


def shown(value: object) -> str:
    """Return a value as messages show it."""
    return "nothing" if value is None else one_line(f"{value!r:.60}")


def number_in(value: Any, low: float, high: float) -> float | None:
    """Return a number above one limit and not above another; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and low < value <= high else None


def whole_in(value: Any, low: int, high: int) -> int:
    """Return a whole number from one to another; raises ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError
    return value
