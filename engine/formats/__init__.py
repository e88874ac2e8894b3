"""The ecosystem's own formats, read as workflows.

Its editors keep two: the API format, which `engine.workflow` reads, and the UI format, which holds where everything
stands. The latter tells a widget's value by its position, so reading it needs the registry.

    api        what others add to the API format
    elsewhere  kinds of node that people know from there, and extensions
    ui         the UI format's JSON, as far as it is read
    widgets    values by position → values by name
    layout     what of it is the editor's alone
    levels     one graph's nodes and links
    reading    the whole, with its subgraphs → a workflow
"""

from engine.formats.api import converted, is_graph, kinds_in, without_traces
from engine.formats.elsewhere import elsewhere
from engine.formats.reading import from_ui
from engine.formats.ui import is_ui

__all__ = ["converted", "elsewhere", "from_ui", "is_graph", "is_ui", "kinds_in", "without_traces"]
