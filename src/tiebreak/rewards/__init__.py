"""A judge as the reward of reinforcement learning: for TRL, OpenRLHF and verl."""

from tiebreak.rewards.adapters import openrlhf, trl, verl, verl_batch

__all__ = ["openrlhf", "trl", "verl", "verl_batch"]
