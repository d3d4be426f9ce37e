"""The data set card: YAML for the hub and `datasets`, and a description for researchers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import DatasetInfo, Features, Version
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from veriserum_hf.core import code_span
from veriserum_hf.dataset.builder import ROWS_VERSION
from veriserum_hf.dataset.plan import Options
from veriserum_hf.dataset.plugin import NAME
from veriserum_hf.dataset.schema import CONFIGS, KIND_OF_CONFIG
from veriserum_hf.dataset.splits import SPLITS

_TEMPLATE = Path(__file__).with_name("card_template.md")
NAME_TO_FILL_IN = "PATH_OR_ORG/NAME"  # in the card; replaced when it is pushed
TAGS = ["medical", "x-ray", "fluoroscopy", "knee-implant", "pose-estimation", "2d-3d-registration"]
_SPLITS = {
    "trial": (
        "By trial, never by frame: neighbouring frames of one trial are similar. The split of a trial depends on\n"
        "its id alone; trials with a manually matched pose are always in `test`."
    ),
    "implant": (
        "By tibial component: none is in two splits. A trial with a manually matched pose is in `test`, or excluded\n"
        "if its component belongs to another split."
    ),
}
_DOWNLOADED = {
    "title": "Veriserum",
    "origin": """Converted from the Veriserum
download (ETH Zurich, MICCAI 2025, [doi 10.3929/ethz-b-000701146](https://doi.org/10.3929/ethz-b-000701146)).""",
    "poses": """- `refined`: automatic 2D/3D registration, the ground truth of `calibrated`. It has
  errors too: where manual poses exist, compare both before a difference of a tenth of a millimetre is reported as an
  improvement.
- `target`: the pose commanded to the robot, from patient data. It was not measured in the images, and differs from
  the pose that they show.
- `manual`: matched by hand, in a few frames: for benchmarks only, never for training.""",
    "licence": """The images are "In Copyright - Non-Commercial Use Permitted" (ETH Zurich). Publishing a converted
copy is up to the holder of the rights; this folder does not grant any.""",
}
_SIMULATED = {
    "title": "Veriserum, simulated",
    "origin": """**Nothing here was
measured**: implants, motions and images were simulated by veriserum-hf, in the layout of the Veriserum data set
(ETH Zurich, MICCAI 2025).""",
    "poses": """As in the measured data set there are `refined`, `target` and `manual` poses, each the exact pose with
an error typical of its kind. The exact poses are in `truth.parquet` of the simulated archive, next to its
database.""",
    "licence": "The frames and implants are simulated; they are under the MIT licence of the program.",
}
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass
class SplitSize:
    """Size of one split of one configuration, summed over its shards."""

    rows: int = 0
    bytes: int = 0
    file_bytes: int = 0

    def add(self, rows: int, bytes: int, file_bytes: int) -> None:
        """Count one more shard."""
        self.rows, self.bytes, self.file_bytes = self.rows + rows, self.bytes + bytes, self.file_bytes + file_bytes


@dataclass(frozen=True)
class CardText:
    """What a card states of the origin of its rows.

    Attributes
    ----------
    title : of the data set.
    tags : for the hub.
    configs : description of each configuration, in one sentence.
    template : file of the text.
    parts : for the template, by the names in it, in addition to those that `write_card` fills in.
    license, license_name, license_link : of the card's head; None where the owner states it.
    one_split : whether all rows were requested in one split.

    """

    title: str
    tags: Sequence[str]
    configs: Mapping[str, str]
    template: Path
    parts: Mapping[str, str]
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    one_split: bool = False


def archive_card(
    options: Mapping[str, Options], above_white: Mapping[str, int], distortions: str, *, simulated: bool
) -> CardText:
    """Text of the card of a converted archive.

    Parameters
    ----------
    options : by configuration.
    above_white : by configuration, measurements with pixels above white; see `ConversionResult`.
    distortions : which form of the distortions was used, where the archive has another than the lab's.
    simulated : whether the archive is simulated.

    """
    about = dict(_SIMULATED if simulated else _DOWNLOADED)
    parts = {
        "images": _images(options, above_white, distortions),
        "splits": _SPLITS[next(iter(options.values())).split_by],
    }
    return CardText(
        about["title"],
        TAGS + ["synthetic"] * simulated,
        CONFIGS,
        _TEMPLATE,
        about | parts,
        license="mit" if simulated else "other",
        license_name=None if simulated else "in-copyright-non-commercial-use-permitted",
        license_link=None if simulated else "https://rightsstatements.org/page/InC-NC/1.0/",
    )


def write_card(
    path: Path,
    text: CardText,
    features: Mapping[str, Features],
    sizes: dict[str, dict[str, SplitSize]],
    format: str,
    *,
    identity: str,
    meshes: Sequence[str] = (),
) -> None:
    """Write the README.md of a converted data set.

    Parameters
    ----------
    path : the file.
    text : what it states of the origin.
    features : by configuration.
    sizes : by configuration and split.
    format : extension of the shards.
    identity : of the conversion. The card states it because datasets identifies a folder by its card alone: without
        it, a folder that was converted again with other poses would be loaded from the cache with the old poses.
    meshes : what was mended of the implants' meshes, or is wrong with them, one sentence each.

    """
    data = _metadata(text, features, sizes, format, identity)
    parts = dict(text.parts)
    body = text.template.read_text(encoding="utf-8").format(
        table=_table(sizes, text.configs, features),
        splits=parts.pop("splits") + ("" if text.one_split else _without_rows(sizes)),
        config=next(iter(features)),
        meshes=_meshes(meshes),
        name=NAME_TO_FILL_IN,
        **parts,
    )
    path.write_text(f"---\n{data.to_yaml()}\n---\n\n{body}", encoding="utf-8")


def _metadata(
    text: CardText,
    features: Mapping[str, Features],
    sizes: dict[str, dict[str, SplitSize]],
    format: str,
    identity: str,
) -> DatasetCardData:
    rows = sum(size.rows for config, splits in sizes.items() if config != "anatomies" for size in splits.values())
    data = DatasetCardData(
        pretty_name=text.title,
        license=text.license,
        license_name=text.license_name,
        license_link=text.license_link,
        task_categories=["image-feature-extraction", "keypoint-detection"],
        tags=list(text.tags),
        size_categories=[next((name for limit, name in _SIZE_CATEGORIES if rows < limit), "n>1M")],
    )
    first = next(iter(features))
    MetadataConfigs(
        {
            config: {
                "data_files": [
                    {"split": split, "path": f"{config}/{split}-*.{format}"}
                    for split in SPLITS
                    if split in sizes[config]
                ],
                "description": f"{text.configs[config]} Conversion {identity}.",
            }
            | ({"default": True} if config == first else {})
            for config in features
        }
    ).to_dataset_card_data(data)
    DatasetInfosDict(
        {config: _info(config, each, sizes[config]) for config, each in features.items()}
    ).to_dataset_card_data(data)
    return data


def empty_splits(splits: Mapping[str, Mapping[str, object]]) -> dict[str, list[str]]:
    """Splits without a row, by configuration of frames; manual poses are all in ``test``.

    Parameters
    ----------
    splits : by configuration, what is known of each split; false where it has no row.

    """
    frames = {config: known for config, known in splits.items() if config in KIND_OF_CONFIG and config != "manual"}
    empty = {config: [split for split in SPLITS if not known.get(split)] for config, known in frames.items()}
    return {config: names for config, names in empty.items() if names}


def _without_rows(sizes: dict[str, dict[str, SplitSize]]) -> str:
    """A sentence on every configuration without a row in some split."""
    return "".join(
        f"\n\n`{config}` has no frame in `{'` and `'.join(splits)}`: none of its trials is there."
        for config, splits in empty_splits(sizes).items()
    )


def _table(sizes: dict[str, dict[str, SplitSize]], descriptions: Mapping[str, str], configs: Iterable[str]) -> str:
    """Rows of each configuration by split."""
    return "\n".join(
        f"| `{config}` | {descriptions[config]} | "
        + " | ".join(str(sizes[config][split].rows) if split in sizes[config] else "" for split in SPLITS)
        + " |"
        for config in configs
    )


def _meshes(sentences: Sequence[str]) -> str:
    """What was mended of meshes, or is wrong with them; nothing where all are sound."""
    if not sentences:
        return ""
    lines = "\n".join(
        f"- {code_span(file)}: {what}" for file, _, what in (each.partition(": ") for each in sentences)
    )
    return f"\nMeshes that were mended, or are not sound:\n\n{lines}"


def _images(options: Mapping[str, Options], above_white: Mapping[str, int], distortions: str) -> str:
    """Sentences on the images: corrected or raw, and how many are clipped."""
    sentences = [_corrected_images(options)]
    if "raw" in options or "calibration" in options:
        sentences.append(
            "Raw images are the files of the archive; where an orientation tag, inverted levels or several channels "
            "would make readers decode another image, a PNG of the stored grey levels takes the file's place."
        )
    if distortions:
        sentences.append(f"Distortions: {distortions}.")
    if any(above_white.values()):
        counts = ", ".join(f"{count} of `{config}`" for config, count in above_white.items() if count)
        sentences.append(
            f"**Clipped:** in rows of some measurements ({counts}), more than 0.1 % of the pixels are brighter than "
            "white; `conversion.json` lists them."
        )
    return " ".join(sentences)


def _corrected_images(options: Mapping[str, Options]) -> str:
    """A sentence on the corrected images, where there are any."""
    corrected = next((each for config, each in options.items() if config in KIND_OF_CONFIG and config != "raw"), None)
    if corrected is None:
        return "Images are the raw files."
    white = 2**corrected.bits - 1
    only = f" Only frames that show anatomy {corrected.anatomy_id}." if corrected.anatomy_id is not None else ""
    return (
        f"Corrected images: {corrected.size} x {corrected.size} pixels, {corrected.bits} bits (white is {white}), "
        f"{corrected.encoding}.{only}"
    )


def _info(config: str, features: Features, sizes: dict[str, SplitSize]) -> DatasetInfo:
    splits = SplitDict(dataset_name=NAME)
    for split in SPLITS:
        if split in sizes:
            splits.add(SplitInfo(name=split, num_bytes=sizes[split].bytes, num_examples=sizes[split].rows))
    return DatasetInfo(
        features=features,
        config_name=config,
        version=Version(ROWS_VERSION),
        splits=splits,
        download_size=sum(size.file_bytes for size in sizes.values()),
        dataset_size=sum(size.bytes for size in sizes.values()),
    )
