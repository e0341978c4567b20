"""A run to look at in a browser: one page in a file, or served as the run goes on."""

from tinker_rl.viewer.page import PageSummary, write_page
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.server import serve
from tinker_rl.viewer.trace import write_trace

__all__ = ["PageSummary", "RunReader", "serve", "write_page", "write_trace"]
