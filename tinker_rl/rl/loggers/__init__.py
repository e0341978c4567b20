"""Where the rows of a run go beside `metrics.jsonl`: TensorBoard, Weights & Biases, trackio."""

from tinker_rl.rl.loggers.known import logger_problems, make_loggers
from tinker_rl.rl.loggers.logger import LoggedRun, Logger
from tinker_rl.rl.loggers.row_log import RowLog

__all__ = ["LoggedRun", "Logger", "RowLog", "logger_problems", "make_loggers"]
