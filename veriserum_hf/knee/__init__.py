"""Kinematics of the knee: six degrees of freedom with their deviations, contact, cycles, smoothing and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
