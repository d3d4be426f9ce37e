from .limits_of_agreement import (
    Agreement as Agreement,
    Agreements as Agreements,
    agreement as agreement,
    agreements as agreements,
)
from .metrics import (
    PLANE_AXES as PLANE_AXES,
    WORLD_AXES as WORLD_AXES,
    pose_errors as pose_errors,
    sample_points as sample_points,
)
from .stated_confidence import (
    FAR_DEG as FAR_DEG,
    FAR_MM as FAR_MM,
    Bin as Bin,
    Marks as Marks,
    calibration_error as calibration_error,
    marks as marks,
    reliability as reliability,
)
from .stated_uncertainty import by_verdict as by_verdict, coverage as coverage
from .summary import (
    SUCCESS as SUCCESS,
    Evaluated as Evaluated,
    Evaluation as Evaluation,
    Group as Group,
    Limits as Limits,
    Metric as Metric,
    Summary as Summary,
    overall as overall,
    overlap_of as overlap_of,
    summarise as summarise,
)
from .tables import (
    AGREEMENT_NOTE as AGREEMENT_NOTE,
    accuracy_table as accuracy_table,
    agreement_table as agreement_table,
    evaluation_tables as evaluation_tables,
    summary_tables as summary_tables,
)
