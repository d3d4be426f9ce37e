"""Errors that this package raises for what a user can correct."""


class VeriserumError(Exception):
    """Base of every error that names something wrong with the user's input and the way out."""


class CalibrationError(VeriserumError, ValueError):
    """A calibration (distortion text, source position, inter-plane pose) that cannot be used."""


class ArchiveError(VeriserumError):
    """An archive whose structure cannot be relied on: nothing is converted from it."""


class FrameError(VeriserumError):
    """One frame that cannot be used; the others can.

    Attributes
    ----------
    reason : str
        One of the short, fixed reasons that ``rejected.jsonl`` counts by, such as ``"truncated"``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it can travel to another process
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class ConversionError(VeriserumError):
    """A conversion that cannot start or continue: output folder, options, disk."""


class SimulationError(VeriserumError):
    """A simulation that cannot start or continue: output folder, options, disk."""


class WorkerError(VeriserumError):
    """A worker process that ended before its work was done."""


class TrainingError(VeriserumError):
    """Data that cannot be trained on or evaluated, or a run that cannot continue."""


class DataSetError(TrainingError):
    """A data set, a configuration or a split that does not exist or cannot be read."""


class NothingThereError(DataSetError):
    """A data set or an archive without any of the requested configurations."""


class RegistrationError(VeriserumError):
    """A frame, implant or initial pose that cannot be registered."""


class MatchError(VeriserumError):
    """A workbench that cannot start, or an action in it that cannot be done."""


class KinematicsError(VeriserumError):
    """Poses, axes of implants or times that no kinematics of a joint can be computed from."""


class HubError(VeriserumError):
    """Something that cannot be published: token, name, repository, connection."""
