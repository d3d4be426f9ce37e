"""``croissant.json``: files, fields and responsible-AI properties of a data set, in the vocabulary of MLCommons.

The hub makes such a description too, but without what the data are for, how they were labelled, and where they fail.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import yaml
from datasets.info import DatasetInfo

from veriserum_hf.dataset import ROWS_VERSION

_WORDS = (  # that the format defines, all of version 1.1
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{word: f"cr:{word}" for word in _WORDS.split()},
}
_TYPES = {"int64": "sc:Integer", "float64": "cr:Float64", "string": "sc:Text"}
_PUBLISHED = {"citeAs": "https://arxiv.org/abs/2509.05483", "datePublished": "2025"}
_RAI = Path(__file__).with_name("responsible_ai.yaml")


def croissant(card: Mapping[str, Any], url: str, version: str, *, simulated: bool, imported: bool) -> str:
    """Content of a data set's ``croissant.json``.

    Parameters
    ----------
    card : head of its card: ``pretty_name``, ``license_link``, ``configs`` and ``dataset_info``.
    url : of its page.
    version : its tag on the hub.
    simulated : whether its archive is simulated.
    imported : whether its frames are a laboratory's own.

    """
    infos = card["dataset_info"]
    infos = {info["config_name"]: DatasetInfo._from_yaml_dict(info) for info in _listed(infos)}
    texts = yaml.safe_load(_RAI.read_text(encoding="utf-8"))
    rai = texts["measured"] | (texts["simulated"] if simulated else texts["imported"] if imported else {})
    repository = {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The repository of the data set at its version.",
        "contentUrl": f"{url}/tree/{version}",
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # what the format takes for a repository
    }
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": url.rpartition("/")[2],
        "alternateName": card["pretty_name"],
        "description": "Dual-plane fluoroscopy of knee implants: each image with its camera, and a 6-DoF "
        "pose for every implant.",
        "url": url,
        "version": ROWS_VERSION,
        **({"license": link} if (link := _licence(card)) else {}),
        **({} if imported else _PUBLISHED),
        "keywords": list(card.get("tags") or []),
        "distribution": [repository, *(_file_set(config) for config in card["configs"])],
        "recordSet": [_record_set(config, infos[config["config_name"]].features) for config in card["configs"]],
        **{f"rai:{name}": value for name, value in rai.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]  # the form for a single configuration


def _licence(card: Mapping[str, Any]) -> str | None:
    if link := card.get("license_link"):
        return str(link)
    return "https://spdx.org/licenses/MIT" if card.get("license") == "mit" else None


def _file_set(config: Mapping[str, Any]) -> dict[str, Any]:
    name = config["config_name"]
    patterns = [files["path"] for files in config["data_files"]]
    kind = "application/x-parquet" if patterns[0].endswith(".parquet") else "application/vnd.apache.arrow.stream"
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-files",
        "name": f"{name}-files",
        "containedIn": {"@id": "repository"},
        "encodingFormat": kind,
        "includes": patterns,
    }


def _record_set(config: Mapping[str, Any], features: datasets.Features) -> dict[str, Any]:
    name = config["config_name"]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": config["description"],
        "field": [_field(name, column, feature, [column]) for column, feature in features.items()],
    }


def _field(parent: str, name: str, feature: Any, path: list[str]) -> dict[str, Any]:
    """Field of a column, or of a part of one at a path."""
    id = f"{parent}/{name}"
    field: dict[str, Any] = {"@type": "cr:Field", "@id": id, "name": name}
    if isinstance(feature, Mapping):
        return field | {"subField": [_field(id, part, each, [*path, part]) for part, each in feature.items()]}
    column, *below = path
    if isinstance(feature, datasets.Image | getattr(datasets, "Mesh", datasets.Image)):
        below = ["bytes"]
    source: dict[str, Any] = {"fileSet": {"@id": f"{id.partition('/')[0]}-files"}, "extract": {"column": column}}
    if below:
        source["transform"] = {"jsonPath": ".".join(below)}
    kind, shape = _type(feature)
    array = {"isArray": True, "arrayShape": ",".join(map(str, shape))} if shape else {}
    return field | {"dataType": kind, "source": source} | array


def _type(feature: Any) -> tuple[str, list[int]]:
    """Type of the numbers of a feature, and the shape of its arrays, -1 for any length."""
    if isinstance(feature, datasets.Image):
        return "sc:ImageObject", []
    if isinstance(feature, datasets.Value):
        return _TYPES[feature.dtype], []
    if hasattr(feature, "feature"):
        kind, shape = _type(feature.feature)
        return kind, [feature.length, *shape]
    return "sc:Text", []  # of a mesh the bytes of its STL file, for which the format has no type
