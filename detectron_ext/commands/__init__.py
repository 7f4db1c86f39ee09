"""What the tools do, each as one function."""

from detectron_ext.commands.infer import infer
from detectron_ext.commands.train_and_test import test, train_and_test
from detectron_ext.commands.visualize import visualize

__all__ = ["infer", "test", "train_and_test", "visualize"]
