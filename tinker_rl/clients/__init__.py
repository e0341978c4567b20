"""The Tinker API: the clients that users hold."""

from tinker_rl.clients.rest_client import RestClient
from tinker_rl.clients.sampling_client import SamplingClient
from tinker_rl.clients.service_client import ServiceClient
from tinker_rl.clients.training_client import TrainingClient

__all__ = ["RestClient", "SamplingClient", "ServiceClient", "TrainingClient"]
