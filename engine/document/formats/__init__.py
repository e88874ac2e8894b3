"""The ecosystem's own formats, read as workflows.

Its editors keep two: the API format, which `engine.document.workflow` reads, and the UI format, which also holds where
everything stands. The latter gives widgets' values by position, so reading it needs the registry.

    api        what others add to the API format
    elsewhere  kinds of node that people know from there, and extensions
    ui         the UI format's JSON, as far as it is read
    widgets    values by position → values by name
    layout     what of it is the editor's alone
    levels     one graph's nodes and links
    reading    the whole, with its subgraphs → a workflow
"""

from engine.document.formats.api import converted, is_graph, kinds_in, without_traces
from engine.document.formats.elsewhere import elsewhere
from engine.document.formats.reading import from_ui
from engine.document.formats.ui import is_ui

__all__ = ["converted", "elsewhere", "from_ui", "is_graph", "is_ui", "kinds_in", "without_traces"]
