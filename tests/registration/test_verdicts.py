"""Each rule of the verdicts."""

from dataclasses import replace

import numpy as np
import pytest

from veriserum_hf.registration.deviations import PlanesApart
from veriserum_hf.registration.verdicts import MIN_SCORE, Findings, verdict, verdicts_of_frame

LIMITS = (30.0, 30.0)
GOOD = Findings(
    covariance=np.diag([0.1, 0.1, 0.1, 0.2, 0.2, 0.2]) ** 2,
    of_cameras=np.zeros((6, 6)),
    rays={"bs": np.array([0.0, 0.0, 1.0]), "fs": np.array([1.0, 0.0, 0.0])},
    shares_in_field={"bs": 1.0, "fs": 1.0},
    score=0.9,
    converged=True,
    planes_apart=PlanesApart(0.02, 0.05),
    contradictory=False,
    runner_up_deg=float("nan"),
    moved=(3.0, 2.0),
)
ONE_PLANE = {"bs": 0.7, "fs": 0.05}


def covariance(*sd):
    return np.diag(sd).astype(float) ** 2


def test_a_good_pose_has_converged_without_a_reason():
    assert verdict(GOOD, LIMITS) == ("converged", "")


@pytest.mark.parametrize(
    ("changes", "chosen", "reason"),
    [
        ({"covariance": np.full((6, 6), np.nan)}, "failed", "not observable"),
        ({"shares_in_field": {"bs": 0.1, "fs": 0.1}}, "failed", "not observable"),
        ({"moved": (31.0, 2.0)}, "failed", "31.0 mm and 2.0 deg from the initial pose"),
        ({"moved": (3.0, 31.0)}, "failed", "3.0 mm and 31.0 deg from the initial pose"),
        ({"score": MIN_SCORE - 0.01}, "failed", "the images agree with 59 % of its outline"),
        ({"score": float("nan")}, "failed", "the images agree with nan % of its outline"),
        (
            {"runner_up_deg": 12.0},
            "ambiguous",
            "visible in one plane only, where a mirrored pose agrees as well, 12 deg",
        ),
        ({"runner_up_deg": 31.0}, "converged", ""),  # it would have failed
        (
            {"contradictory": True, "planes_apart": PlanesApart(-0.4, 0.05)},
            "ambiguous",
            "the planes contradict each other: their poses are 0.40 +- 0.05 mm",
        ),
        (
            {"covariance": covariance(0.1, 0.6, 0.1, 0.2, 0.2, 0.2)},
            "ambiguous",
            "95 % interval of +- 1.18 mm along (+0.00, +1.00, +0.00)",
        ),
        ({"covariance": covariance(0.1, 0.1, 0.1, 0.2, 0.6, 0.2)}, "ambiguous", "95 % interval of +- 0.20 mm"),
        (
            {"covariance": covariance(0.1, 0.1, 1.51, 0.2, 0.2, 0.2), "of_cameras": covariance(0, 0, 1.5, 0, 0, 0)},
            "converged",
            "with refined cameras, whose error along (+0.00, +0.00, +1.00) all their frames share: +- 2.9 mm (95 %)",
        ),
        (  # the shared error does not excuse the frame's own
            {"covariance": covariance(0.1, 0.1, 5.0, 0.2, 0.2, 0.2), "of_cameras": covariance(0, 0, 1.5, 0, 0, 0)},
            "ambiguous",
            "95 % interval of +- 9.35 mm",
        ),
        (
            {"covariance": covariance(0.1, 1.6, 1.6, 0.2, 0.2, 0.2), "of_cameras": covariance(0, 1.5, 1.6, 0, 0, 0)},
            "ambiguous",
            "95 % interval of +- 3.14 mm",
        ),
        ({"converged": False}, "ambiguous", "not converged within the number of iterations"),
    ],
)
def test_each_rule_has_its_reason(changes, chosen, reason):
    found, detail = verdict(replace(GOOD, **changes), LIMITS)
    assert found == chosen and detail.startswith(reason)


def test_implants_of_a_frame_share_what_the_planes_contradict_each_other_by():
    apart = replace(GOOD, contradictory=True, planes_apart=PlanesApart(-0.4, 0.05))
    found = verdicts_of_frame({"femur": GOOD, "tibia": apart}, LIMITS)
    assert [verdict for verdict, _ in found.values()] == ["ambiguous", "ambiguous"]
    assert found["femur"][1].startswith(
        "the planes contradict each other at the tibia of this frame: their poses are 0.40 +- 0.05 mm apart"
    )
    for other in (GOOD, replace(apart, score=0.1), replace(GOOD, converged=False)):  # a lost pose says nothing
        found = verdicts_of_frame({"femur": GOOD, "tibia": other}, LIMITS)
        assert found == {"femur": verdict(GOOD, LIMITS), "tibia": verdict(other, LIMITS)}
    lost = replace(GOOD, score=0.1)
    assert verdicts_of_frame({"femur": lost, "tibia": apart}, LIMITS)["femur"] == verdict(lost, LIMITS)


def test_failures_go_before_ambiguities():
    assert verdict(replace(GOOD, score=0.1, contradictory=True, converged=False), LIMITS)[0] == "failed"


def test_in_one_plane_depth_may_be_uncertain_and_is_stated():
    deep = replace(GOOD, shares_in_field=ONE_PLANE, covariance=covariance(0.1, 0.1, 3, 0.2, 0.2, 0.2))
    assert verdict(deep, LIMITS) == (
        "converged",
        "visible in bs only (fs has 5 % of it in its field): depth known to +- 5.9 mm (95 %)",
    )
    across = replace(deep, covariance=covariance(0.1, 0.9, 3, 0.2, 0.2, 0.2))
    chosen, detail = verdict(across, LIMITS)
    assert chosen == "ambiguous" and detail.startswith("95 % interval of +- 1.76 mm") and "depth known to" in detail
