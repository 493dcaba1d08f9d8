"""Pydantic models of every YAML a user writes: target, data set, recipe. A path that a user gives wins over what ships."""

from edgeprune.config.calib import Calib, read_calib
from edgeprune.config.datasets import DataSet, FolderSplit, StreetSplit, load_data_set
from edgeprune.config.plans import Plan, PlanRow, read_plan
from edgeprune.config.reading import ROOT, Strict, find, parse, read_yaml, shipped
from edgeprune.config.recipes import (
    LEAST_FRAMES,
    QUANTIZED,
    SPARSE,
    AugmentSpec,
    Calibration,
    Mix,
    ModelSpec,
    Phase,
    PolicySpec,
    PreprocessName,
    Recipe,
    Validation,
    leave_out,
    load_recipe,
)
from edgeprune.config.targets import BucketFamily, Parity, Power, Target, load_target

__all__ = [
    "LEAST_FRAMES",
    "QUANTIZED",
    "ROOT",
    "SPARSE",
    "AugmentSpec",
    "BucketFamily",
    "Calib",
    "Calibration",
    "DataSet",
    "FolderSplit",
    "Mix",
    "ModelSpec",
    "Parity",
    "Phase",
    "Plan",
    "PlanRow",
    "PolicySpec",
    "Power",
    "PreprocessName",
    "Recipe",
    "StreetSplit",
    "Strict",
    "Target",
    "Validation",
    "find",
    "leave_out",
    "load_data_set",
    "load_recipe",
    "load_target",
    "parse",
    "read_calib",
    "read_plan",
    "read_yaml",
    "shipped",
]
