"""
The conformance suite: is what is counted what is billed, with the versions installed here?

Each scenario calls a provider on this machine through the real clients of a framework, and
the tracker's figures are held against what the provider billed. `agentsight-tokens doctor
--conformance` prints the result.
"""

from __future__ import annotations

from .figures import Figures
from .meter_under_test import MeterUnderTest, TrackerUnderTest
from .scenario import MiscountError, Result, Scenario, Verdict
from .suite import (
    FRAMEWORKS,
    clients_of,
    run_scenario,
    run_suite,
    run_with_tracker,
    scenarios_of,
    versions,
)

__all__ = [
    "FRAMEWORKS",
    "Figures",
    "MeterUnderTest",
    "MiscountError",
    "Result",
    "Scenario",
    "TrackerUnderTest",
    "Verdict",
    "clients_of",
    "run_scenario",
    "run_suite",
    "run_with_tracker",
    "scenarios_of",
    "versions",
]
