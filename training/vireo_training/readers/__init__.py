"""Readers for what Vietnamese captioned images come as; `read_data` recognises the format."""

from .detect import FORMATS
from .frame import Frame
from .mixture import Mixture, read_mixture
from .sources import Source, column_names, read_data

__all__ = ["FORMATS", "Frame", "Mixture", "Source", "column_names", "read_data", "read_mixture"]
