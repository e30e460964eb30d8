"""Import: calls that others have logged become records, each once however often it is imported."""

from .importer import Importer, Progress, Summary
from .row import Defaults
from .source import FORMATS, Source

__all__ = ["FORMATS", "Defaults", "Importer", "Progress", "Source", "Summary"]
