"""``veriserum push-dataset``: a converted folder to a data set on the hub."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import yaml
from huggingface_hub import DatasetCard

from veriserum_hf.core import listed
from veriserum_hf.dataset import NAME_TO_FILL_IN, ROWS_VERSION, SOURCES, open_rows
from veriserum_hf.errors import HubError
from veriserum_hf.hub.benchmark import CONFIG, SPLIT, eval_yaml
from veriserum_hf.hub.connection import page
from veriserum_hf.hub.croissant import croissant
from veriserum_hf.hub.implant_views import implant_files
from veriserum_hf.hub.matched_poses import MatchedPoses
from veriserum_hf.hub.push import CARD, Pushed, push_folder
from veriserum_hf.jobs import SUMS, damaged_files

_RECORDS = ("conversion.json", "splits.json", "rejected.jsonl")


@dataclass(frozen=True)
class ConvertedFolder:
    """A folder that `veriserum_hf.dataset.convert_archive` wrote, checked for a push.

    Attributes
    ----------
    path : of the folder.
    simulated : whether its archive is simulated.
    imported : whether its frames are a laboratory's own, not those of the download.
    files : what the conversion wrote, relative to the folder, shards first and the card last.
    others : other files in the folder, such as notes; not pushed.

    """

    path: Path
    simulated: bool
    imported: bool
    files: tuple[Path, ...]
    others: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path) -> "ConvertedFolder":
        """Open a folder, and check that it has all shards that its card lists.

        Raises
        ------
        HubError
            If it is not a finished conversion, or a file of it is missing or changed, except for the card.

        """
        missing = [name for name in (*_RECORDS, CARD) if not (folder / name).is_file()]
        _check_own(folder, [folder / name for name in (*_RECORDS, CARD) if name not in missing])
        if missing:
            raise HubError(
                f"{folder} has no {' and no '.join(missing)}: expected a folder that `veriserum convert` made. "
                "Nothing was pushed"
            )
        try:
            archive = json.loads((folder / _RECORDS[0]).read_text(encoding="utf-8"))["archive"]
            simulated, imported = archive["simulated"], archive.get("imported")
            shards = _shards(folder)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
            raise HubError(
                f"{folder}: {_RECORDS[0]} or {CARD} is not as `veriserum convert` wrote it ({error!r}). Convert "
                "again; nothing was pushed"
            ) from error
        sums = [Path(SUMS)] if (folder / SUMS).is_file() else []  # earlier versions wrote none
        if sums and (damaged := damaged_files(folder)):
            raise HubError(
                f"{folder} is damaged: {listed(damaged)} missing or not as `veriserum convert` wrote it (see "
                f"{SUMS}). Convert again, or copy it again; nothing was pushed"
            )
        sources = [Path(SOURCES)] if (folder / SOURCES).is_file() else []  # of an import
        _check_own(folder, [folder / name for name in sources])
        files = (*shards, *map(Path, _RECORDS), *sources, *sums, Path(CARD))
        every = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return cls(
            folder, simulated is True, imported is True, files, tuple(path for path in every if path not in files)
        )

    def card(self, repo_id: str) -> str:
        """Text of the card, with the name that the data set is loaded by."""
        return (self.path / CARD).read_text(encoding="utf-8").replace(NAME_TO_FILL_IN, repo_id)


def push_dataset(
    folder: Path,
    repo_id: str,
    *,
    poses: MatchedPoses | None = None,
    version: str = ROWS_VERSION,
    public: bool = False,
    accept_data_licence: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Push a converted folder, or resume an interrupted push.

    Parameters
    ----------
    folder : that `veriserum convert` made.
    poses : matched by hand in its frames, to be pushed as a configuration of their own.
    repo_id, public, dry_run, progress : see `veriserum_hf.hub.push.push_folder`.
    version : becomes a tag, which ``load_dataset(..., revision=version)`` takes.
    accept_data_licence : the images' terms (non-commercial use only) are known; needed for ``public``, except for
        simulated frames, which have no such terms.

    Raises
    ------
    HubError
        If the folder is not a finished conversion, it may not be made public, or as `push_folder` raises it.

    """
    converted = ConvertedFolder.open(folder)
    if public and not converted.simulated and not accept_data_licence:
        terms = (
            "the frames are those of a laboratory, and publishing them needs its permission, and that of the people "
            "whom they show"
            if converted.imported
            else 'the images are "In Copyright - Non-Commercial Use Permitted" (ETH Zurich), and publishing a copy '
            "needs the permission of the rights holder"
        )
        raise HubError(
            f"{terms}. With it: --public --accept-data-licence. Without --public, {repo_id} is private. Nothing was "
            "pushed"
        )
    card = converted.card(repo_id)
    return push_folder(
        folder,
        repo_id,
        repo_type="dataset",
        files=converted.files,
        version=version,
        card=card if poses is None else poses.card(card),
        made=made_files(converted, repo_id, version) | ({} if poses is None else poses.files),
        public=public,
        dry_run=dry_run,
        progress=progress,
    )


def made_files(converted: ConvertedFolder, repo_id: str, version: str) -> dict[str, bytes]:
    """Files that only a repository has, by their paths in it."""
    head = DatasetCard.load(converted.path / CARD).data.to_dict()
    about = {"simulated": converted.simulated, "imported": converted.imported}
    made = {"croissant.json": croissant(head, page(repo_id, "dataset"), version, **about).encode()}
    splits = {config["config_name"]: [files["split"] for files in config["data_files"]] for config in head["configs"]}
    if SPLIT in splits.get(CONFIG, []):
        made["eval.yaml"] = eval_yaml(head["pretty_name"]).encode()
    if "anatomies" in splits:
        made |= implant_files(open_rows(str(converted.path), "anatomies").meshes)
    return made


def _shards(folder: Path) -> list[Path]:
    """Shards that the card's configurations name, all of them."""
    data = DatasetCard.load(folder / CARD).data.to_dict()
    infos = data["dataset_info"]
    infos = infos if isinstance(infos, list) else [infos]  # the form for a single configuration
    sizes = {info["config_name"]: info["download_size"] for info in infos}
    shards: list[Path] = []
    for config in data["configs"]:
        name = config["config_name"]
        found = [file for files in config["data_files"] for file in _matching(folder, files["path"])]
        _check_own(folder, found)
        size = sum(file.stat().st_size for file in found)
        if size != sizes[name]:
            raise HubError(
                f"{folder}: the {len(found)} shards of {name} hold {size:,} bytes; expected {sizes[name]:,}, as "
                f"{CARD} states. Convert again; nothing was pushed"
            )
        shards += [file.relative_to(folder) for file in found]
    return shards


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern of the card; HubError where it leaves the folder."""
    parts = PurePosixPath(pattern).parts
    if PurePosixPath(pattern).is_absolute() or PureWindowsPath(pattern).anchor or ".." in parts or "\\" in pattern:
        raise HubError(
            f"{folder / CARD}: the data files {pattern!r} are outside the folder; expected shards below it, such as "
            "calibrated/train-*.parquet. Convert again; nothing was pushed"
        )
    return sorted(folder.glob(pattern))


def _check_own(folder: Path, files: Iterable[Path]) -> None:
    """Raise HubError unless all are regular files of the folder: what a link leads to is not the conversion's."""
    for file in files:
        inside = file.resolve() == folder.resolve() / file.relative_to(folder)
        if not inside or not file.is_file():
            raise HubError(
                f"{file} is a link, or no file; expected a regular file that `veriserum convert` wrote. Replace it "
                "by the file itself, or convert again; nothing was pushed"
            )


def what_stays(converted: ConvertedFolder) -> str:
    """A line on the files that are not pushed; empty if there are none."""
    return f"not pushed, as the conversion did not write it: {listed(converted.others)}" if converted.others else ""
