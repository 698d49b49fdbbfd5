"""This node among others: Redis, presence, shared weight."""

from resender.cluster.cluster import Cluster
from resender.cluster.presence import read_nodes, set_drained
from resender.cluster.redis_link import RedisLink, installation_of
from resender.cluster.shared_weight import SharedWeight
from resender.cluster.weight_leases import WeightLeases

__all__ = [
    "Cluster",
    "RedisLink",
    "SharedWeight",
    "WeightLeases",
    "installation_of",
    "read_nodes",
    "set_drained",
]
