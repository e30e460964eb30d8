"""The dashboard: the server's data as pages."""

from .files import ENDPOINTS as FILES
from .login import ENDPOINTS as LOGIN
from .overview import ENDPOINTS as OVERVIEW
from .page import page_of_problem

__all__ = ["ENDPOINTS", "page_of_problem"]

ENDPOINTS = (*FILES, *LOGIN, *OVERVIEW)
