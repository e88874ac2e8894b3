"""The ecosystem's own formats, read as workflows, and written.

Its editors save two: the API format, which `engine.document.workflow` reads, and the UI format, which also holds the
layout. The latter gives widgets' values by position, so reading it needs the registry.

    api        what other programs add to the API format
    foreign    values that kinds of node here don't have
    elsewhere  kinds of node that people know from ComfyUI and its extensions
    ui         the UI format's JSON, without what isn't read
    variables  variables that subgraphs get from outside
    widgets    values by position → values by name
    groups     group nodes, which the editor had before subgraphs
    layout     the editor's layout
    levels     the nodes and links of one graph
    reading    a file with its subgraphs → a workflow
    arranging  where nodes stand that have no place
    writing    a workflow → a file
"""

from engine.document.formats.api import converted, is_graph, kinds_in, without_additions
from engine.document.formats.elsewhere import elsewhere
from engine.document.formats.foreign import without_unknown
from engine.document.formats.reading import from_ui
from engine.document.formats.ui import is_made_here, is_ui
from engine.document.formats.writing import is_small, to_ui

__all__ = ["converted", "elsewhere", "from_ui", "is_graph", "is_made_here", "is_small", "is_ui", "kinds_in", "to_ui"]
__all__ += ["without_additions", "without_unknown"]
