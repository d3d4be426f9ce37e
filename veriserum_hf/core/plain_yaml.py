"""YAML of settings, which needs no more than plain values."""

import re
from functools import cache
from typing import Any

_DEEPEST = 10  # of settings that hold settings
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_WHOLE = re.compile(r"[-+]?[0-9]+", re.ASCII)
_NUMBER = re.compile(
    r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII
)


def load_plain_yaml(text: str) -> object:
    """Content of a YAML document without references, which may stand for any amount of text, or deep nesting.

    Numbers are those of YAML 1.2: 010 is ten, 1e-05 is a number, and 1:30 is text. A key occurs once in a mapping.

    Raises
    ------
    ValueError
        If it has references or is nested deeply.
    yaml.YAMLError
        If it is not YAML, or a key occurs twice.

    """
    import yaml  # takes as long to load as all of this room

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError(f"it holds references (*name) or more than {_DEEPEST} levels, expected plain settings")
    found: object = yaml.load(text, _loader())  # noqa: S506 - a SafeLoader
    return found


def _whole(loader: Any, node: Any) -> int:
    return int(loader.construct_scalar(node))


@cache
def _loader() -> Any:
    """Loader of plain values."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        why = f"{key.value[:60]!r} occurs twice, expected it once"
                        raise yaml.constructor.ConstructorError(problem=why, problem_mark=key.start_mark)
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    # PyYAML has the numbers of YAML 1.1, where 010 is eight and 1e-05 text.
    PlainLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (_INT, _FLOAT)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern in ((_INT, _WHOLE), (_FLOAT, _NUMBER)):
        PlainLoader.add_implicit_resolver(tag, re.compile(f"(?:{pattern.pattern})$", re.ASCII), list("-+.0123456789"))
    PlainLoader.add_constructor(_INT, _whole)
    return PlainLoader
