"""YAML of settings, which needs no more than plain values."""

_DEEPEST = 10  # of settings that hold settings


def load_plain_yaml(text: str) -> object:
    """Content of a YAML document without references, which may stand for any amount of text, or deep nesting.

    Raises
    ------
    ValueError
        If it has either.
    yaml.YAMLError
        If it is not YAML.

    """
    import yaml  # takes as long to load as all of this room

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError(f"it holds references (*name) or more than {_DEEPEST} levels, expected plain settings")
    return yaml.safe_load(text)
