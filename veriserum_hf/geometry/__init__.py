"""Rigid transforms and the dual-plane rig."""
